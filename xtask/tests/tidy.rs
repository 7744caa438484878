//! The checkout keeps the rules of the house.

#[test]
fn the_checkout_is_tidy() {
    let found = xtask::tidy::check(&xtask::root()).unwrap();
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} places break a rule of the house:\n{}", found.len(), lines.join("\n"));
}
