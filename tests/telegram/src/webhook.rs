//! setWebhook and deleteWebhook: the checks, in Telegram's order.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use crate::api::Answer;
use crate::client::{Target, Trust};
use crate::delivery::{Settings, Webhook};
use crate::state::{Account, Shared};
use crate::{Call, Options, url};

const MAX_CERTIFICATE: usize = 3 * 1024 * 1024;

/// What a call asks for.
struct Wish<'a> {
    url: String,
    secret: String,
    max_connections: usize,
    ip_address: String,
    certificate: Option<&'a [u8]>,
    drop_pending: bool,
}

impl Wish<'_> {
    fn new<'a>(call: &'a Call, options: &Options) -> Wish<'a> {
        let text = call.text("certificate");
        // Only a file is a certificate; plain text is ignored without a word.
        let name = text.strip_prefix("attach://").unwrap_or("certificate");
        let (default, most) = if options.local { (100, 100_000) } else { (40, 100) };
        let max_connections = call.text("max_connections").parse::<i64>().unwrap_or(default).clamp(1, most);
        Wish {
            url: call.text("url"),
            secret: call.text("secret_token"),
            max_connections: usize::try_from(max_connections).unwrap_or(1),
            ip_address: call.text("ip_address"),
            certificate: call.files.get(name).map(Vec::as_slice),
            drop_pending: call.flag("drop_pending_updates"),
        }
    }

    fn is_met_by(&self, settings: &Settings) -> bool {
        settings.url == self.url
            && settings.max_connections == self.max_connections
            && settings.secret == self.secret
            && settings.fixed_ip.map_or(String::new(), |ip| ip.to_string()) == self.ip_address
            && self.certificate.is_none()
            && !settings.certificate
            && !self.drop_pending
    }

    /// What a webhook needs, or why there will be none.
    fn settings(self, options: &Options) -> Result<Settings, String> {
        let target = Target::new(&self.url, Some(&self.secret)).ok_or("invalid webhook URL specified")?;
        if self.secret.len() > 256 {
            return Err("secret token is too long".into());
        }
        if !self.secret.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Err("secret token contains unallowed characters".into());
        }
        if let Some(size) = self.certificate.map(<[u8]>::len).filter(|size| *size > MAX_CERTIFICATE) {
            return Err(format!("certificate size is too big ({size} bytes)"));
        }
        if !options.local {
            check_port(&target).map_err(bad_webhook)?;
        }
        let fixed_ip = check_address(&self.ip_address, &target.host, options.local).map_err(bad_webhook)?;
        let trust = match self.certificate {
            _ if !target.https => Ok(Trust::plain()),
            Some(pem) => Trust::uploaded(pem),
            None => Trust::system(options.roots.as_bytes()),
        };
        Ok(Settings {
            trust: trust.map_err(bad_webhook)?,
            certificate: self.certificate.is_some(),
            url: self.url,
            target,
            secret: self.secret,
            max_connections: self.max_connections,
            fixed_ip,
        })
    }
}

fn bad_webhook(error: impl AsRef<str>) -> String {
    format!("bad webhook: {}", error.as_ref())
}

fn check_port(target: &Target) -> Result<(), &'static str> {
    if !target.https {
        return Err("An HTTPS URL must be provided for webhook");
    }
    if ![80, 88, 443, 8443].contains(&target.port) {
        return Err("Webhook can be set up only on ports 80, 88, 443 or 8443");
    }
    Ok(())
}

/// The address that is pinned, if one is. Of the names, only those that no internet has are resolved.
fn check_address(pinned: &str, host: &str, is_local: bool) -> Result<Option<Ipv4Addr>, String> {
    let pinned = match pinned {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| "Invalid IP address specified")?),
    };
    let literal = || host.trim_matches(['[', ']']).parse().ok();
    let localhost = || (host == "localhost").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = pinned.or_else(literal).or_else(localhost);
    match address {
        _ if is_local => {}
        Some(IpAddr::V6(_)) => return Err("IPv6-only addresses are not allowed".into()),
        Some(IpAddr::V4(address)) if url::is_reserved(address) => {
            return Err(format!("IP address {address} is reserved"));
        }
        None if host.ends_with(".invalid") => {
            return Err("Failed to resolve host: Name or service not known".into());
        }
        _ => {}
    }
    Ok(pinned.and_then(|address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }))
}

/// setWebhook.
pub(crate) fn set(shared: &Arc<Shared>, token: &str, account: &mut Account, call: &Call) -> Answer {
    let wish = Wish::new(call, &shared.options);
    if wish.url.is_empty() {
        return delete(account, call);
    }
    let now = Instant::now();
    let pause = shared.options.scaled(1.0);
    if account.last_set_webhook.is_some_and(|last| now < last + pause) {
        return Answer::too_many(1);
    }
    account.last_set_webhook = Some(now);
    if account.webhook.as_ref().is_some_and(|webhook| wish.is_met_by(&webhook.settings)) {
        set_allowed_updates(account, call);
        return Answer::described("Webhook is already set");
    }
    // The old webhook and the old updates are gone before the new values are looked at.
    remove(account);
    if wish.drop_pending {
        account.queues.clear();
    }
    match wish.settings(&shared.options) {
        Err(description) => Answer::error(400, &format!("Bad Request: {description}")),
        Ok(settings) => {
            set_allowed_updates(account, call);
            account.webhook = Some(Webhook::start(shared, token, settings));
            Answer::described("Webhook was set")
        }
    }
}

/// deleteWebhook.
pub(crate) fn delete(account: &mut Account, call: &Call) -> Answer {
    let was_set = remove(account);
    if call.flag("drop_pending_updates") {
        account.queues.clear();
    }
    Answer::described(if was_set { "Webhook was deleted" } else { "Webhook is already deleted" })
}

/// Takes the webhook down, if there is one.
pub(crate) fn remove(account: &mut Account) -> bool {
    let was_set = account.webhook.take().is_some();
    if was_set {
        account.last_error = None;
        account.queues.reset();
    }
    was_set
}

/// Sticky: only a readable list changes it, and a list without a known name means the default.
fn set_allowed_updates(account: &mut Account, call: &Call) {
    if let Ok(names) = serde_json::from_str::<Vec<String>>(&call.text("allowed_updates")) {
        let names: Vec<String> = names.into_iter().filter(|name| KINDS.split(' ').any(|kind| kind == name)).collect();
        account.allowed_updates = Some(names).filter(|names| !names.is_empty());
    }
}

const KINDS: &str = "\
    message edited_message channel_post edited_channel_post business_connection business_message \
    edited_business_message deleted_business_messages message_reaction message_reaction_count \
    inline_query chosen_inline_result callback_query shipping_query pre_checkout_query \
    purchased_paid_media poll poll_answer my_chat_member chat_member chat_join_request chat_boost \
    removed_chat_boost";
