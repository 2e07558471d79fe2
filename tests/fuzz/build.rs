//! Links the programs without libFuzzer's look at comparisons, see `main.rs`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg=-Wl,--wrap=__sanitizer_weak_hook_memcmp");
}
