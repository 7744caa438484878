use raftwright_core::ClockDrift;
use raftwright_traits::{Config, ReloadError, Span};

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

type Change = fn(&mut Config);

fn reload(change: Change) -> Result<(), ReloadError> {
    let config = Config::default();
    let mut to = config.clone();
    change(&mut to);
    config.check_reload(&to)
}

#[test]
fn some_settings_change_while_a_node_runs() {
    let changes: [Change; 7] = [
        |c| c.heartbeat_interval = 20,
        |c| c.pre_vote = false,
        |c| c.enable_elect = false,
        |c| c.enable_heartbeat = false,
        |c| c.api_batch_max = 1,
        |c| c.reads_max = 1,
        |c| c.apply_bytes_max = 1,
    ];
    for change in changes {
        assert_eq!(reload(change), Ok(()));
    }
}

#[test]
fn others_do_not_and_are_named() {
    let changes: [(&str, Change); 11] = [
        ("cluster_name", |c| c.cluster_name.push('x')),
        ("election_timeout_min", |c| c.election_timeout_min += 1),
        ("election_timeout_max", |c| c.election_timeout_max += 1),
        ("rpc_timeout", |c| c.rpc_timeout += 1),
        ("api_queue_max", |c| c.api_queue_max += 1),
        ("uncommitted_bytes_max", |c| c.uncommitted_bytes_max += 1),
        ("log_writes_max", |c| c.log_writes_max += 1),
        ("append_entries_max", |c| c.append_entries_max += 1),
        ("append_bytes_max", |c| c.append_bytes_max += 1),
        ("inflight_requests_max", |c| c.inflight_requests_max += 1),
        ("inflight_bytes_max", |c| c.inflight_bytes_max += 1),
    ];
    for (name, change) in changes {
        match reload(change) {
            Err(ReloadError::Fixed { setting }) => assert_eq!(setting, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    match reload(|c| c.heartbeat_interval = c.election_timeout_min) {
        Err(ReloadError::Invalid(error)) => assert_eq!(error.setting, "election_timeout_min"),
        other => panic!("{other:?}"),
    }
}

/// What is bounded by another machine is bounded as this one says.
#[test]
fn every_bound_reaches_the_machine_that_keeps_it() {
    let config = Config {
        election_timeout_max: 401,
        uncommitted_bytes_max: 11,
        log_writes_max: 12,
        clock_drift_max: Some(13),
        reads_max: 14,
        log_keep_for_followers_max: 15,
        append_entries_max: 16,
        append_bytes_max: 17,
        inflight_requests_max: 18,
        inflight_bytes_max: 19,
        ..Config::default()
    };
    let (replica, stream) = (config.replica(), config.stream());
    assert_eq!(replica.election_timeout_max, Span::from_millis(401));
    assert_eq!((replica.uncommitted_bytes_max, replica.writes_max, replica.reads_max), (11, 12, 14));
    assert_eq!(replica.clock_drift_max, Some(ClockDrift::per_mille(13)));
    assert_eq!(replica.log_keep_for_followers_max, 15);
    assert_eq!((stream.request_entries_max, stream.request_bytes_max), (16, 17));
    assert_eq!((stream.inflight_requests_max, stream.inflight_bytes_max), (18, 19));
}
