//! setWebhook and deleteWebhook: the checks, in Telegram's order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::answer::Answer;
use crate::client::{Target, Trust};
use crate::delivery::{Settings, Webhook};
use crate::state::{Account, Shared};
use crate::{Call, Options, kinds, polling, url};

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
        let (default, most) = if options.local {
            (100, 100_000)
        } else {
            (40, 100)
        };
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
            && settings
                .fixed_ip()
                .map_or(String::new(), |ip| ip.to_string())
                == self.ip_address
            && self.certificate.is_none()
            && !settings.certificate
            && !self.drop_pending
    }

    /// The checks before anything of this call counts.
    fn check(&self) -> Result<Target, String> {
        let target =
            Target::new(&self.url, Some(&self.secret)).ok_or("invalid webhook URL specified")?;
        if self.secret.len() > 256 {
            return Err("secret token is too long".into());
        }
        if !self
            .secret
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        {
            return Err("secret token contains unallowed characters".into());
        }
        match self.certificate.map(<[u8]>::len) {
            Some(size) if size > MAX_CERTIFICATE => {
                Err(format!("certificate size is too big ({size} bytes)"))
            }
            _ => Ok(target),
        }
    }

    /// What a webhook needs, or the error of the call.
    fn settings(self, target: Target, shared: &Shared) -> Result<Settings, String> {
        let options = &shared.options;
        if !options.local {
            check_port(&target).map_err(bad_webhook)?;
        }
        let (address, is_fixed) =
            check_address(&self.ip_address, &target.host, shared).map_err(bad_webhook)?;
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
        "" => shared
            .resolve(host)
            .ok_or("Failed to resolve host: Name or service not known")?,
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
    if account
        .last_set_webhook
        .is_some_and(|last| now < last + pause)
    {
        return Answer::too_many(1);
    }
    account.last_set_webhook = Some(now);
    if account
        .webhook
        .as_ref()
        .is_some_and(|webhook| wish.is_met_by(&webhook.settings))
    {
        kinds::set(&mut account.allowed_updates, call);
        return Answer::described("Webhook is already set");
    }
    polling::abort(
        account,
        "Conflict: terminated by setWebhook request",
        &shared.options,
    );
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
    kinds::set(&mut account.allowed_updates, call);
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
    Answer::described(if was_set {
        "Webhook was deleted"
    } else {
        "Webhook is already deleted"
    })
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
