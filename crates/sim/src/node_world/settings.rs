//! The `config` line of a scenario file.

use core::time::Duration;

use raftwright_traits::{Config, SnapshotPolicy};

use crate::scenario::ConfigValue;

/// One `name=value` of a `config` line.
pub(super) fn set_config(config: &mut Config, name: &str, value: &ConfigValue) -> Result<(), String> {
    let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let wrong = || Err(format!("{name} does not take this value"));
    match (name, value) {
        ("election_timeout", ConfigValue::Range(low, high)) => {
            (config.election_timeout_min, config.election_timeout_max) = (millis(low), millis(high));
            Ok(())
        }
        ("snapshot_every", ConfigValue::Never) => {
            config.snapshot_policy = SnapshotPolicy::Never;
            Ok(())
        }
        ("snapshot_every", ConfigValue::Number(entries)) => {
            config.snapshot_policy = SnapshotPolicy::LogsSinceLast(*entries);
            Ok(())
        }
        (_, ConfigValue::Time(time)) => set_number(config, name, millis(time)),
        (_, ConfigValue::Number(number)) => set_number(config, name, *number),
        ("pre_vote", ConfigValue::Flag(on)) => {
            config.pre_vote = *on;
            Ok(())
        }
        ("enable_elect", ConfigValue::Flag(on)) => {
            config.enable_elect = *on;
            Ok(())
        }
        ("cluster_name", ConfigValue::Word(word)) => {
            config.cluster_name.clone_from(word);
            Ok(())
        }
        (_, ConfigValue::Range(..) | ConfigValue::Flag(_) | ConfigValue::Never | ConfigValue::Word(_)) => wrong(),
    }
}

/// A field of the configuration that is a number or a time.
fn set_number(config: &mut Config, name: &str, number: u64) -> Result<(), String> {
    let size = usize::try_from(number).unwrap_or(usize::MAX);
    match name {
        "heartbeat_interval" => config.heartbeat_interval = number,
        "election_timeout_min" => config.election_timeout_min = number,
        "election_timeout_max" => config.election_timeout_max = number,
        "rpc_timeout" => config.rpc_timeout = number,
        "api_queue_max" => config.api_queue_max = size,
        "api_batch_max" => config.api_batch_max = size,
        "uncommitted_bytes_max" => config.uncommitted_bytes_max = size,
        "log_writes_max" => config.log_writes_max = size,
        "reads_max" => config.reads_max = size,
        "append_entries_max" => config.append_entries_max = size,
        "append_bytes_max" => config.append_bytes_max = size,
        "inflight_requests_max" => config.inflight_requests_max = size,
        "inflight_bytes_max" => config.inflight_bytes_max = size,
        "apply_bytes_max" => config.apply_bytes_max = size,
        "max_in_snapshot_log_to_keep" => config.max_in_snapshot_log_to_keep = number,
        "log_keep_for_followers_max" => config.log_keep_for_followers_max = number,
        _ => return Err(format!("there is no configuration field {name}")),
    }
    Ok(())
}
