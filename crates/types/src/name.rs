//! Names and ids: what a stack, a service, a replica and one start of a replica are called.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest name accepted, in bytes. A name becomes a folder, a cgroup and a part of a unit's name; 63 is the limit
/// of a DNS label (RFC 1035, 2.3.4), the strictest of the places a name may end up in.
const MAX_NAME_BYTES: usize = 63;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name cannot be empty")]
    Empty,
    /// Longer than a folder, cgroup or DNS label may safely be.
    #[error("a name has at most {MAX_NAME_BYTES} characters, this one has {0}")]
    TooLong(usize),
    /// A character outside the accepted set.
    #[error("a name is made of letters a-z A-Z, digits, '-' and '_'; {0:?} is none of them")]
    BadCharacter(char),
    /// Begins with `-` or `_`.
    #[error("a name begins with a letter or a digit, not with {0:?}")]
    BadStart(char),
}

fn check(text: &str) -> Result<(), NameError> {
    let Some(first) = text.chars().next() else { return Err(NameError::Empty) };
    if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_')) {
        return Err(NameError::BadCharacter(bad));
    }
    if !first.is_ascii_alphanumeric() {
        return Err(NameError::BadStart(first));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong(text.len()));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a name: 1 to 63 of `[A-Za-z0-9_-]`, beginning with a letter or digit.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// The name of a stack. Cheap to clone.
    StackName
}
name_type! {
    /// The name of a service within its stack. Cheap to clone.
    ServiceName
}

impl StackName {
    /// The name a folder gives to a stack that names itself nowhere: what is no name character becomes `-`, and
    /// a folder without any usable character gives `stack`.
    #[must_use]
    pub fn from_folder(folder: &str) -> Self {
        let mapped: String =
            folder.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
        let trimmed = mapped.trim_start_matches(['-', '_']).trim_end_matches('-');
        let cut = &trimmed[..trimmed.len().min(MAX_NAME_BYTES)];
        Self::parse(cut).unwrap_or_else(|_| Self("stack".into()))
    }
}

/// One running place of a service: the service and the replica's index, counted from 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaId {
    /// The service.
    pub service: ServiceName,
    /// Counted from 0.
    pub index: u32,
}

impl fmt::Display for ReplicaId {
    /// `web` for replica 0, `web.1` for replica 1: the names of the log folders.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.index == 0 {
            f.pad(self.service.as_str())
        } else {
            f.pad(&format!("{}.{}", self.service, self.index))
        }
    }
}

/// One start of a replica's process. Never reused within one host; news that carries an older id is dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpawnId(pub u64);

impl fmt::Display for SpawnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_folder_and_cgroup() {
        assert!(ServiceName::parse("db-migrate_2").is_ok());
        assert_eq!(ServiceName::parse(""), Err(NameError::Empty));
        assert_eq!(ServiceName::parse("a/b"), Err(NameError::BadCharacter('/')));
        assert_eq!(ServiceName::parse("web.1"), Err(NameError::BadCharacter('.')));
        assert_eq!(ServiceName::parse("-web"), Err(NameError::BadStart('-')));
        assert_eq!(ServiceName::parse("é"), Err(NameError::BadCharacter('é')));
        assert_eq!(ServiceName::parse(&"a".repeat(64)), Err(NameError::TooLong(64)));
    }

    #[test]
    fn a_folder_always_gives_a_stack_name() {
        assert_eq!(StackName::from_folder("my shop").as_str(), "my-shop");
        assert_eq!(StackName::from_folder(".config").as_str(), "config");
        assert_eq!(StackName::from_folder("").as_str(), "stack");
        assert_eq!(StackName::from_folder("日本").as_str(), "stack");
        assert_eq!(StackName::from_folder(&"x".repeat(200)).as_str().len(), 63);
    }
}
