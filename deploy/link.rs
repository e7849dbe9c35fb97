//! How the release for the Pi is linked: a build script, so that it reaches our programs and
//! nothing else.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=deploy/no-unwind.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // Not on x86_64, where another linker has no such scripts.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "aarch64") {
        let script = format!(
            "-T,{}/deploy/no-unwind.ld",
            env::var("CARGO_MANIFEST_DIR").unwrap_or_default()
        );
        // 16 KiB is the largest page that a Pi's kernel has, where the linker would align to 64.
        for argument in ["-z,max-page-size=16384", "--no-eh-frame-hdr", &script] {
            println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
            println!("cargo::rustc-link-arg-examples=-Wl,{argument}");
        }
    }
}
