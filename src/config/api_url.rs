//! The Bot API: Telegram's, or a server of the user's own.

/// The Bot API that Telegram runs.
pub(super) const TELEGRAM: &str = "https://api.telegram.org";

/// Whether this is a Bot API server of one's own.
pub(crate) fn is_own_api(api_url: &str) -> bool {
    let (_scheme, rest) = api_url.split_once("://").unwrap_or_default();
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    !host.eq_ignore_ascii_case("api.telegram.org")
}

/// A URL of the Bot API, without a slash at the end.
///
/// # Errors
/// What is wrong with it; the text continues the setting's name.
pub(super) fn api_url(url: &str) -> Result<String, String> {
    let url = url.trim_end_matches('/');
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let is_known = matches!(scheme, "http" | "https");
    let has_host = !rest.is_empty() && !rest.starts_with(['/', ':']);
    let is_plain = rest
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"@?#".contains(&byte));
    if !is_known || !has_host || !is_plain {
        return Err("must be like https://api.telegram.org or http://127.0.0.1:8081".into());
    }
    if scheme == "http" && !is_own_api(url) {
        return Err("must begin with https://: http:// is only for your own Bot API server".into());
    }
    Ok(url.to_owned())
}
