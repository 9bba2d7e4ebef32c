//! The stack that counts now, for tasks that answer without asking the loop.

use std::sync::{Arc, PoisonError, RwLock};

use mainstay_config::Stack;

/// Replaced by the loop when a changed file counts; read by everybody else.
#[derive(Clone)]
pub(crate) struct SharedStack(Arc<RwLock<Arc<Stack>>>);

impl SharedStack {
    pub(crate) fn new(stack: Arc<Stack>) -> Self {
        Self(Arc::new(RwLock::new(stack)))
    }

    /// The stack as of now.
    pub(crate) fn get(&self) -> Arc<Stack> {
        // Nothing that holds the lock can panic half-way: it only copies a pointer.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, stack: Arc<Stack>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = stack;
    }
}
