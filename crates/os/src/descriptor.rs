//! An open descriptor of the host that outlives the processes it is handed to.

use std::fmt;
use std::sync::Arc;

use crate::platform::OwnedDescriptor;

/// Shared: it closes when the last copy is dropped.
#[derive(Clone)]
pub struct Descriptor(Arc<OwnedDescriptor>);

impl Descriptor {
    /// Takes the descriptor over.
    #[must_use]
    pub fn new(descriptor: OwnedDescriptor) -> Self {
        Self(Arc::new(descriptor))
    }

    /// The descriptor itself.
    #[must_use]
    pub fn get(&self) -> &OwnedDescriptor {
        &self.0
    }
}

impl PartialEq for Descriptor {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Descriptor {}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({:?})", self.0)
    }
}
