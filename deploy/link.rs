//! Links the release for the Pi. This is a build script, so that the options reach our programs, and
//! no build script or test.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=deploy/no-unwind.ld");
    let is = |name: &str, value: &str| env::var(name).as_deref() == Ok(value);
    // On x86_64 the linker is another one, which has no such scripts.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "aarch64") {
        let script = format!(
            "-T,{}/deploy/no-unwind.ld",
            env::var("CARGO_MANIFEST_DIR").unwrap_or_default()
        );
        // The largest page of a Pi's kernel has 16 KiB. The linker alone would align to 64 KiB.
        for argument in ["-z,max-page-size=16384", "--no-eh-frame-hdr", &script] {
            println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
            println!("cargo::rustc-link-arg-examples=-Wl,{argument}");
        }
    }
}
