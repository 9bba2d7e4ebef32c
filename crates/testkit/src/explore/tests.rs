//! The exploration itself.

use super::*;

#[test]
fn no_order_of_events_breaks_a_rule() {
    for stack in stacks() {
        let began = std::time::Instant::now();
        match run(stack, Bounds { depth: 10, commands: 1, faults: 1 }).unwrap() {
            Ok(summary) => println!("{summary} in {:?}", began.elapsed()),
            Err(violation) => panic!("{violation}"),
        }
    }
}
