//! Errors of the file as people read them: the line, a caret under the place, and the help.

use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Diagnostics};

/// Longest part of a source line that is shown, in bytes; a line of megabytes would bury its error.
const MAX_SHOWN_BYTES: usize = 400;

pub(crate) fn render(diagnostics: &Diagnostics, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let file = diagnostics.file.display().to_string();
    let mut blocks: Vec<String> = diagnostics
        .list
        .iter()
        .map(|diagnostic| block(&renderer, &file, &diagnostics.text, &Shown::of(diagnostic)))
        .collect();
    if diagnostics.omitted > 0 {
        blocks.push(format!("and {} more errors", diagnostics.omitted));
    }
    blocks.join("\n\n")
}

/// One block by itself.
pub(crate) fn render_one(shown: &Shown<'_>, file: &Path, text: &str, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    block(&renderer, &file.display().to_string(), text, shown)
}

/// What a block shows.
pub(crate) struct Shown<'a> {
    /// Whether it is an error; a warning otherwise.
    pub(crate) error: bool,
    pub(crate) cause: Option<&'static str>,
    pub(crate) message: &'a str,
    pub(crate) help: Option<&'a str>,
    /// Of the beginning of `span`, counted from 1.
    pub(crate) line: u32,
    pub(crate) span: &'a Range<usize>,
}

impl<'a> Shown<'a> {
    fn of(diagnostic: &'a Diagnostic) -> Self {
        Self {
            error: true,
            cause: Some(diagnostic.cause.as_str()),
            message: &diagnostic.message,
            help: diagnostic.help.as_deref(),
            line: diagnostic.line,
            span: &diagnostic.span,
        }
    }
}

fn block(renderer: &Renderer, file: &str, text: &str, shown: &Shown<'_>) -> String {
    let level = if shown.error { Level::ERROR } else { Level::WARNING };
    let title = level.primary_title(shown.message);
    let title = match shown.cause {
        Some(cause) => title.id(cause),
        None => title,
    };
    let (source, span) = excerpt(text, shown.span);
    let line = usize::try_from(shown.line).unwrap_or(1);
    let snippet =
        Snippet::source(source).line_start(line).path(file).annotation(AnnotationKind::Primary.span(span));
    let mut group = title.element(snippet);
    if let Some(help) = shown.help {
        group = group.element(Level::HELP.message(annotate_snippets::normalize_untrusted_str(help)));
    }
    renderer.render(&[group])
}

/// The line in which the span begins, cut to a readable length around it, and the span's part of that line.
fn excerpt<'t>(text: &'t str, span: &Range<usize>) -> (&'t str, Range<usize>) {
    let start = floor_boundary(text, span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let line_end = line_end - usize::from(text[start..line_end].ends_with('\r'));
    let from = if start - line_start > MAX_SHOWN_BYTES / 2 {
        floor_boundary(text, start - MAX_SHOWN_BYTES / 2)
    } else {
        line_start
    };
    let to = if line_end - start > MAX_SHOWN_BYTES / 2 {
        floor_boundary(text, start + MAX_SHOWN_BYTES / 2)
    } else {
        line_end
    };
    let end = floor_boundary(text, span.end).clamp(start, to);
    (&text[from..to], start - from..end - from)
}

/// The nearest character boundary at or before the offset.
fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_excerpt_is_one_line_and_short() {
        assert_eq!(excerpt("a\nbcd\ne", &(3..6)), ("bcd", 1..3));
        assert_eq!(excerpt("a\r\nb", &(1..4)), ("a", 1..1));
        assert_eq!(excerpt("", &(0..0)), ("", 0..0));
        let long = format!("{}X{}", "é".repeat(1000), "é".repeat(1000));
        let (shown, span) = excerpt(&long, &(2000..2001));
        assert!(shown.len() <= MAX_SHOWN_BYTES + 4);
        assert_eq!(&shown[span], "X");
    }
}
