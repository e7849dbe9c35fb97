//! The webhook's certificate: made, loaded, held against what Telegram checks, and changed while
//! connections come in.

mod chain;
mod check;
mod error;
mod files;
mod load;
mod make;
pub mod rollover;
mod x509;

pub use chain::ChainFault;
pub use error::{CertificateError, FileFault, NameRule};
pub use files::CertificateFiles;
pub use load::{Certificate, load};
pub(crate) use make::{VALID_DAYS, renew};
pub use make::{make, write};
