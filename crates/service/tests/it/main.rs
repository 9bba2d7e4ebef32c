//! The library as a program uses it: its examples as children, under a manager's socket, in a console, and when they fail.

mod child;
mod console;
mod failing;
mod notified;
