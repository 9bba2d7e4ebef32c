//! Errors of the API as RFC 9457 problem documents (`application/problem+json`).

use std::fmt;

use mainstay_types::ExitCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a problem document (RFC 9457, 6.1).
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// A request that was not done, with the reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem, for programs: a URI that never changes. See [`ProblemKind`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words; the same for every problem of the kind.
    pub title: String,
    /// The HTTP status, again.
    pub status: u16,
    /// What is wrong with this request, and what to do next.
    #[schema(required)]
    pub detail: Option<String>,
}

impl Problem {
    /// A problem of this kind; `detail` names the thing, the reason and the next step.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.uri().to_owned(),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: Some(detail.into()),
        }
    }

    /// No service of that name. `known` are the names there are; the nearest one, or all of a few, are told.
    #[must_use]
    pub fn no_such_service<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        Self::new(
            ProblemKind::NoSuchService,
            format!("there is no service {name:?} in this stack{}", nearest(name, &known)),
        )
    }

    /// Something the contract names and this version does not do yet; `what` begins the sentence: `reload`.
    #[must_use]
    pub fn not_supported(what: &str) -> Self {
        Self::new(ProblemKind::NotSupported, format!("{what} is not supported yet"))
    }

    /// The kind, unless the other side is newer and knows more kinds.
    #[must_use]
    pub fn known_kind(&self) -> Option<ProblemKind> {
        ProblemKind::ALL.into_iter().find(|kind| kind.uri() == self.kind)
    }

    /// The exit code of a command line that ends with this problem.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self.known_kind() {
            Some(ProblemKind::NoSuchService) => ExitCode::NotFound,
            Some(ProblemKind::BadRequest | ProblemKind::BodyTooLarge | ProblemKind::InvalidFile) => {
                ExitCode::Usage
            }
            Some(ProblemKind::NotPermitted) => ExitCode::NotPermitted,
            Some(
                ProblemKind::NoSuchRoute
                | ProblemKind::MethodNotAllowed
                | ProblemKind::Conflict
                | ProblemKind::NotSupported
                | ProblemKind::Unavailable
                | ProblemKind::Internal,
            )
            | None => ExitCode::Failed,
        }
    }
}

impl fmt::Display for Problem {
    /// The detail, or the title where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail.as_deref().unwrap_or(&self.title))
    }
}

impl std::error::Error for Problem {}

/// `: did you mean "web"?`, or the few names there are, or nothing.
pub(crate) fn nearest(name: &str, known: &[&str]) -> String {
    /// Names worth listing in one line.
    const FEW: usize = 12;
    // One slip in three characters, a swap of neighbours being one, still counts as a misspelling.
    let slips = (name.chars().count() / 3).max(1);
    let best = known.iter().map(|known| (strsim::osa_distance(name, known), *known)).min();
    match best {
        Some((distance, candidate)) if distance <= slips => format!(": did you mean {candidate:?}?"),
        Some(_) if known.len() <= FEW => format!(": there are {}", known.join(", ")),
        Some(_) | None => String::new(),
    }
}

/// The kinds of problems.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProblemKind {
    /// No route of that path.
    NoSuchRoute,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// A query or path that does not read.
    BadRequest,
    /// A body larger than any request needs.
    BodyTooLarge,
    /// No service of that name.
    NoSuchService,
    /// The stack's file is not valid; what runs goes on as it was.
    InvalidFile,
    /// The asker may not.
    NotPermitted,
    /// It cannot be done in the present state: a start while the host stops, say.
    Conflict,
    /// Named by the contract, not done by this version.
    NotSupported,
    /// Not now: the host starts, stops or has too much to do.
    Unavailable,
    /// The host's own fault.
    Internal,
}

impl ProblemKind {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::NoSuchRoute,
        Self::MethodNotAllowed,
        Self::BadRequest,
        Self::BodyTooLarge,
        Self::NoSuchService,
        Self::InvalidFile,
        Self::NotPermitted,
        Self::Conflict,
        Self::NotSupported,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The `type` of the document.
    #[must_use]
    pub const fn uri(self) -> &'static str {
        match self {
            Self::NoSuchRoute => "urn:mainstay:problem:no-such-route",
            Self::MethodNotAllowed => "urn:mainstay:problem:method-not-allowed",
            Self::BadRequest => "urn:mainstay:problem:bad-request",
            Self::BodyTooLarge => "urn:mainstay:problem:body-too-large",
            Self::NoSuchService => "urn:mainstay:problem:no-such-service",
            Self::InvalidFile => "urn:mainstay:problem:invalid-file",
            Self::NotPermitted => "urn:mainstay:problem:not-permitted",
            Self::Conflict => "urn:mainstay:problem:conflict",
            Self::NotSupported => "urn:mainstay:problem:not-supported",
            Self::Unavailable => "urn:mainstay:problem:unavailable",
            Self::Internal => "urn:mainstay:problem:internal",
        }
    }

    /// The `title` of the document.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::NoSuchRoute => "no such path",
            Self::MethodNotAllowed => "method not allowed here",
            Self::BadRequest => "the request does not read",
            Self::BodyTooLarge => "the body is too large",
            Self::NoSuchService => "no such service",
            Self::InvalidFile => "the file is not valid",
            Self::NotPermitted => "not permitted",
            Self::Conflict => "not possible in the present state",
            Self::NotSupported => "not supported yet",
            Self::Unavailable => "not available now",
            Self::Internal => "the host failed",
        }
    }

    /// The HTTP status (RFC 9110, 15).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NoSuchRoute | Self::NoSuchService => 404,
            Self::MethodNotAllowed => 405,
            Self::BadRequest => 400,
            Self::BodyTooLarge => 413,
            // RFC 9110, 15.5.21: understood, and not to be processed.
            Self::InvalidFile => 422,
            Self::NotPermitted => 403,
            Self::Conflict => 409,
            Self::NotSupported => 501,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }
}
