//! One line in the log for each connection that goes wrong, and not a flood from one address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines that one address may cause at once.
pub(crate) const WARNING_BURST: u32 = 8;

/// Time after which an address may cause one more line.
pub(crate) const WARNING_REFILL: Duration = Duration::from_secs(5);

/// Addresses that are counted separately; beyond them nothing is logged until some have been quiet.
pub(crate) const WARNING_ADDRESSES_MAX: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct Account {
    spent: u32,
    since: Instant,
    suppressed: u64,
}

/// Warnings about peers, limited by address.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    accounts: Mutex<BTreeMap<IpAddr, Account>>,
}

impl Warnings {
    /// Logs one line about a connection with `address` that was closed or could not be opened.
    pub(crate) fn warn(&self, address: &dyn fmt::Display, ip: IpAddr, what: &'static str, reason: &dyn fmt::Display) {
        if let Some(suppressed) = self.spend(ip, Instant::now()) {
            tracing::warn!(peer = %address, %reason, suppressed, "{what}");
        }
    }

    /// Takes one line from the address's allowance: the lines suppressed before it, or `None` when there is none left.
    fn spend(&self, ip: IpAddr, now: Instant) -> Option<u64> {
        let mut accounts: MutexGuard<'_, _> = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= WARNING_ADDRESSES_MAX && !accounts.contains_key(&ip) {
            accounts.retain(|_, account| now.duration_since(account.since) < WARNING_REFILL * WARNING_BURST);
            if accounts.len() >= WARNING_ADDRESSES_MAX {
                return None;
            }
        }
        let account = accounts.entry(ip).or_insert(Account { spent: 0, since: now, suppressed: 0 });
        let refills = now.duration_since(account.since).as_secs() / WARNING_REFILL.as_secs();
        if refills > 0 {
            account.spent = account.spent.saturating_sub(u32::try_from(refills).unwrap_or(u32::MAX));
            account.since = now;
        }
        if account.spent >= WARNING_BURST {
            account.suppressed += 1;
            return None;
        }
        account.spent += 1;
        Some(std::mem::take(&mut account.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_cut_off_and_the_next_line_says_how_many_were_left_out() {
        let warnings = Warnings::default();
        let (ip, now) = (IpAddr::from([192, 0, 2, 1]), Instant::now());
        let lines = (0..WARNING_BURST + 5).filter(|_| warnings.spend(ip, now).is_some()).count();
        assert_eq!(lines, WARNING_BURST as usize);
        assert_eq!(warnings.spend(IpAddr::from([192, 0, 2, 2]), now), Some(0), "another address has its own allowance");
        assert_eq!(warnings.spend(ip, now + WARNING_REFILL), Some(5));
    }

    #[test]
    fn addresses_without_number_do_not_take_memory_without_bound() {
        let (warnings, now) = (Warnings::default(), Instant::now());
        let address = |i: u32| IpAddr::from(i.to_be_bytes());
        (0..3 * WARNING_ADDRESSES_MAX as u32).for_each(|i| _ = warnings.spend(address(i), now));
        assert_eq!(warnings.accounts.lock().unwrap().len(), WARNING_ADDRESSES_MAX);
        let later = now + WARNING_REFILL * WARNING_BURST;
        assert_eq!(warnings.spend(address(u32::MAX), later), Some(0), "quiet addresses make room");
    }
}
