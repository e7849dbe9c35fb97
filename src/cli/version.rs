//! `pihook version`.

use super::failure::Failure;
use super::output::print;
use super::program::Program;

/// Prints the program and its version; pihook's too, where it is another program.
pub(super) fn version(program: &Program) -> Result<(), Failure> {
    let pihook = concat!("pihook ", env!("CARGO_PKG_VERSION"));
    let own = format!("{} {}", program.name, program.version);
    if own == pihook {
        print(&own)
    } else {
        print(&format!("{own} ({pihook})"))
    }
}
