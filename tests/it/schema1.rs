//! Docker's schema 1, signed and unsigned: how such a manifest is found and what its digest stands for.

use crate::support::{Fault, FaultRegistry, TestContext, image, sha256};

/// A signed manifest is found by its tag and by its payload's digest, in either algorithm, and comes as it is.
#[test]
fn a_signed_manifest_is_found_by_tag_and_digest() {
    for sha512 in [false, true] {
        let registry = FaultRegistry::start();
        let built = image().layer("a layer").throwaway("CMD sh").layer("another");
        let built = if sha512 { built.sha512() } else { built };
        for built in [built.clone().schema1(), built.schema1_unsigned()] {
            let pushed = registry.push(built);
            for name in [format!(":{}", pushed.tag()), format!("@{}", pushed.digest())] {
                let reference = format!("{}/app{name}", registry.host());
                let outcome = TestContext::new().run(["inspect", "--raw", &reference]).success();
                assert_eq!(outcome.stdout.as_bytes(), pushed.document());
            }
        }
    }
}

/// The digest of all bytes of a signed manifest is nobody's, and one byte of the payload is as good as another manifest.
#[test]
fn a_signed_manifest_with_another_payload_is_refused() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("a layer").schema1());
    let reference = format!("{}/app@{}", registry.host(), pushed.digest());
    let spoiled = String::from_utf8(pushed.document().to_vec()).unwrap().replacen("amd64", "amd65", 1);
    registry.on_manifest(pushed.digest()).once(Fault::Body(spoiled.into_bytes()));
    let outcome = TestContext::new().run(["inspect", "--raw", &reference]).fails_with(6);
    assert!(outcome.stderr.contains(pushed.digest()), "{}", outcome.stderr);
    let wrong = sha256(pushed.document());
    registry.on_manifest(pushed.tag()).once(Fault::WrongDigestHeader(wrong.clone()));
    registry.on_head(pushed.tag()).once(Fault::NoDigestHeader);
    let by_tag = format!("{}/app:{}", registry.host(), pushed.tag());
    let outcome = TestContext::new().run(["inspect", "--raw", &by_tag]).fails_with(6);
    assert!(outcome.stderr.contains(&wrong), "{}", outcome.stderr);
}
