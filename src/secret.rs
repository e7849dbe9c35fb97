//! Text that must never be shown.

use std::fmt;

use subtle::ConstantTimeEq;

/// A token, a secret path or a secret token. It prints as `***`, whatever prints it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this text, in a time that tells nothing but whether the lengths agree.
    #[must_use]
    pub fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_matches_itself_and_never_shows() {
        let secret = Secret::from("110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw".to_owned());
        assert!(secret.matches(secret.expose().as_bytes()));
        assert!(!secret.matches(b"110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaW"));
        assert!(!secret.matches(b"") && !secret.matches(b"110201543"));
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
    }
}
