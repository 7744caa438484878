//! The `config` line of a scenario file.

use core::time::Duration;

use raftwright_core::ElectionPriority;
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
        ("enable_heartbeat", ConfigValue::Flag(on)) => {
            config.enable_heartbeat = *on;
            Ok(())
        }
        ("clock_drift_max", ConfigValue::Never) => {
            config.clock_drift_max = None;
            Ok(())
        }
        ("election_priority", ConfigValue::Never) => {
            config.election_priority = ElectionPriority::Never;
            Ok(())
        }
        ("election_priority", ConfigValue::Word(word)) => {
            config.election_priority = match word.as_str() {
                "low" => ElectionPriority::Low,
                "normal" => ElectionPriority::Normal,
                "high" => ElectionPriority::High,
                _ => return wrong(),
            };
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
        "clock_drift_max" => config.clock_drift_max = Some(u32::try_from(number).unwrap_or(u32::MAX)),
        "install_snapshot_timeout" => config.install_snapshot_timeout = number,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The scenario language takes any field of `Config`: each under its own name, but for the three with a form of their own.
    #[test]
    fn every_field_can_be_set() {
        let values = [
            ConfigValue::Number(7),
            ConfigValue::Flag(true),
            ConfigValue::Never,
            ConfigValue::Word("low".to_owned()),
            ConfigValue::Range(Duration::from_millis(1), Duration::from_millis(2)),
        ];
        let settable = |name: &str| values.iter().any(|value| set_config(&mut Config::default(), name, value).is_ok());
        let text = format!("{:?}", Config::default());
        let fields = text.split([' ', '{', '(', ',']).filter_map(|word| word.strip_suffix(':'));
        let fields: Vec<&str> = fields.filter(|field| *field != "logs" && *field != "bytes").collect();
        assert!(fields.len() >= 20, "{fields:?}");
        for field in fields {
            assert!(settable(if field == "snapshot_policy" { "snapshot_every" } else { field }), "{field}");
        }
        assert!(settable("election_timeout") && !settable("no_such_field"));
    }
}
