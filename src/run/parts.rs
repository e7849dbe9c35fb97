//! What the threads share.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::edge::arrivals::Arrivals;
use crate::status::facts::Status;
use crate::telegram::client::Api;
use crate::updates::handover::Handover;
use crate::updates::observations::Observations;

/// What the parts of the program share.
pub(super) struct SharedParts {
    pub(super) api: Api,
    pub(super) status: Arc<Status>,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) handover: Arc<Handover>,
    /// Each bot's, by its place in the settings.
    pub(super) observations: Vec<Arc<Observations>>,
    pub(super) runtime: Handle,
}
