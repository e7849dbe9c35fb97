//! setWebhook and deleteWebhook: the checks, in Telegram's order.

use std::net::IpAddr;
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
        let max_connections = call.integer("max_connections", default, 1, most);
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
            && settings.fixed_ip().map_or(String::new(), |ip| ip.to_string()) == self.ip_address
            && self.certificate.is_none()
            && !settings.certificate
            && !self.drop_pending
    }

    /// The checks before anything of this call counts.
    fn check(&self) -> Result<Target, String> {
        let target = Target::new(&self.url, Some(&self.secret)).ok_or("invalid webhook URL specified")?;
        if self.secret.len() > 256 {
            return Err("secret token is too long".into());
        }
        if !self.secret.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Err("secret token contains unallowed characters".into());
        }
        match self.certificate.map(<[u8]>::len).filter(|size| *size > MAX_CERTIFICATE) {
            Some(size) => Err(format!("certificate size is too big ({size} bytes)")),
            None => Ok(target),
        }
    }

    /// What a webhook needs, or why there will be none.
    fn settings(self, target: Target, shared: &Shared) -> Result<Settings, String> {
        let options = &shared.options;
        if !options.local {
            check_port(&target).map_err(bad_webhook)?;
        }
        let (address, is_fixed) = check_address(&self.ip_address, &target.host, shared).map_err(bad_webhook)?;
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
            address,
            is_fixed,
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

/// The address where the webhook is, and whether it is pinned.
fn check_address(pinned: &str, host: &str, shared: &Shared) -> Result<(IpAddr, bool), String> {
    let address = match pinned {
        "" => shared.resolve(host).ok_or("Failed to resolve host: Name or service not known")?,
        text => text.parse().map_err(|_| "Invalid IP address specified")?,
    };
    match address {
        _ if shared.options.local => {}
        IpAddr::V6(_) => return Err("IPv6-only addresses are not allowed".into()),
        IpAddr::V4(address) if url::is_reserved(address) => {
            return Err(format!("IP address {address} is reserved"));
        }
        IpAddr::V4(_) => {}
    }
    Ok((address, !pinned.is_empty()))
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
    account.abort_poll("Conflict: terminated by setWebhook request", &shared.options);
    // The old webhook and the old updates are gone before the new values are looked at.
    remove(account);
    if wish.drop_pending {
        account.queues.clear();
    }
    account.last_error = None;
    let refused = |description: &str| Answer::error(400, &format!("Bad Request: {description}"));
    let target = match wish.check() {
        Ok(target) => target,
        Err(description) => return refused(&description),
    };
    // From here on they count, whatever becomes of the webhook.
    set_allowed_updates(account, call);
    match wish.settings(target, shared) {
        Err(description) => refused(&description),
        Ok(settings) => {
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
pub(crate) fn set_allowed_updates(account: &mut Account, call: &Call) {
    if let Ok(names) = serde_json::from_str::<Vec<String>>(&call.text("allowed_updates")) {
        let is_named = |kind: &str| names.iter().any(|name| name.eq_ignore_ascii_case(kind));
        let mut kinds: Vec<&str> = KINDS.split(' ').filter(|kind| is_named(kind)).collect();
        if kinds.is_empty() {
            kinds = default_kinds().collect();
        }
        let is_default = default_kinds().eq(kinds.iter().copied());
        account.allowed_updates = (!is_default).then(|| kinds.into_iter().map(str::to_owned).collect());
    }
}

/// The kinds of updates that a bot gets which has asked for none.
pub(crate) fn default_kinds() -> impl Iterator<Item = &'static str> {
    KINDS.split(' ').filter(|kind| !["chat_member", "message_reaction", "message_reaction_count"].contains(kind))
}

/// In Telegram's order.
const KINDS: &str = "\
    message edited_message channel_post edited_channel_post inline_query chosen_inline_result callback_query \
    shipping_query pre_checkout_query poll poll_answer my_chat_member chat_member chat_join_request chat_boost \
    removed_chat_boost message_reaction message_reaction_count business_connection business_message \
    edited_business_message deleted_business_messages purchased_paid_media managed_bot guest_message";
