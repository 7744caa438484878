use raftwright_traits::Config;

#[test]
fn the_defaults_are_valid() {
    assert!(Config::default().validate().is_ok());
}

#[test]
fn settings_that_cannot_work_are_named() {
    let with = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err().setting
    };
    assert_eq!(with(|c| c.heartbeat_interval = 0), "heartbeat_interval");
    assert_eq!(with(|c| c.election_timeout_min = 60), "election_timeout_min");
    assert_eq!(with(|c| c.election_timeout_max = c.election_timeout_min), "election_timeout_max");
    assert_eq!(with(|c| c.api_queue_max = 0), "api_queue_max");
    assert_eq!(with(|c| c.apply_bytes_max = 0), "apply_bytes_max");
}
