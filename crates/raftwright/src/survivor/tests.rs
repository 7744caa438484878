use super::*;
use raftwright_traits::RaftLogReader;
use raftwright_wal::testing::{Loss, SimDisk};

const ROOT: &str = "/survivor";
const OLD: ClusterId = ClusterId(1);
const NEW: ClusterId = ClusterId(2);
const LATER: ClusterId = ClusterId(3);
const LAST: LogIndex = 4;

/// What is in a data directory, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    cluster: Option<u128>,
    voted: Option<u64>,
    /// Term, index, and the voters that it names if it is a membership.
    entries: Vec<(u64, LogIndex, Option<Vec<u64>>)>,
}

async fn held(disk: &SimDisk, context: &str) -> Held {
    let failed = |error: &dyn std::fmt::Display| -> String { panic!("{context}: {error}") };
    let dir = DataDir::open(disk.clone(), Path::new(ROOT), DataDirOptions { node_id: 7, random: 5 });
    let dir = Arc::new(dir.map_err(|error| failed(&error)).unwrap());
    let cluster = dir.identity().cluster_id;
    let opened = WalLog::<EasyConfig, SimDisk>::open_with_writer(dir, WalOptions::default());
    let (mut log, _writer, _) = opened.map_err(|error| failed(&error)).unwrap();
    let entries = log.get_log_reader().await.try_get_log_entries(0..u64::MAX).await.unwrap();
    let voters = |payload: &EntryPayload<EasyConfig>| match payload {
        EntryPayload::Membership(membership) => Some(membership.voter_ids().collect()),
        EntryPayload::Blank | EntryPayload::Normal(_) => None,
    };
    let entries =
        entries.iter().map(|entry| (entry.log_id.leader_id.term(), entry.log_id.index, voters(&entry.payload)));
    Held { cluster, voted: log.read_vote().await.unwrap().map(|vote| vote.term()), entries: entries.collect() }
}

/// The directory of one of three servers, stopped.
fn survivor() -> SimDisk {
    let disk = SimDisk::new(1);
    let dir = DataDir::open(disk.clone(), Path::new(ROOT), DataDirOptions { node_id: 7, random: 4 }).unwrap();
    dir.set_cluster_id(OLD.0).unwrap();
    let options = WalOptions { first_segment_bytes: 8 << 10, ..WalOptions::default() };
    let (mut log, mut writer, _) = WalLog::<EasyConfig, SimDisk>::open_with_writer(Arc::new(dir), options).unwrap();
    let token = |write| IOFlushed::new(WriteId(write), Arc::new(Unheard));
    log.save_vote(&Vote::new_committed(3, 8), token(0));
    let nodes = BTreeMap::from([7, 8, 9].map(|id| (id, BasicNode::new("h:1"))));
    let membership = Membership::new(vec![[7, 8, 9].into()], nodes).unwrap();
    let payloads = [EntryPayload::Membership(membership), EntryPayload::Blank, EntryPayload::Normal("a".into())];
    let entries = (2..=LAST)
        .zip(payloads)
        .map(|(index, payload)| Entry { log_id: LogId::new(CommittedTerm::new(3, None), index), payload });
    log.append(entries.collect(), token(1));
    while writer.run_batch().unwrap() > 0 {}
    writer.close().unwrap();
    drop((log, writer));
    disk.power_cut(Loss::Everything);
    disk
}

async fn begin(disk: &SimDisk, cluster: ClusterId) -> Result<BegunAnew, SurvivorError> {
    begin_anew_on(disk.clone(), Path::new(ROOT), "h:7", cluster.0 as u64, cluster).await
}

/// The three states that there are: nothing has happened, the old cluster is left, it is done.
struct States {
    old: Held,
    left: Held,
    done: Held,
}

impl States {
    async fn new() -> Self {
        let old = held(&survivor(), "as it was").await;
        assert_eq!((old.cluster, old.voted, old.entries.len()), (Some(OLD.0), Some(3), 3));
        let left = Held { cluster: Some(NEW.0), ..old.clone() };
        let mut done = Held { voted: Some(4), ..left.clone() };
        done.entries.push((4, LAST + 1, Some(vec![7])));
        Self { old, left, done }
    }

    fn number(&self, held: &Held, context: &str) -> usize {
        let states = [&self.old, &self.left, &self.done];
        states.iter().position(|state| *state == held).unwrap_or_else(|| panic!("{context}: {held:?}"))
    }
}

/// The power goes at every write, sync and change of a name. What is left is the old server, or the new one, or a server of a cluster
/// without anybody else; and whoever does it again gets the new one, with all that the survivor had.
#[tokio::test]
async fn a_new_cluster_is_begun_whole_or_can_be_begun_again() {
    let states = States::new().await;
    let whole = survivor();
    let before = whole.counts().steps();
    let begun = begin(&whole, NEW).await.unwrap();
    assert_eq!((begun.last_index, begun.membership_index, begun.old_cluster), (LAST, LAST + 1, Some(OLD)));
    let steps = whole.counts().steps() - before;
    whole.power_cut(Loss::Everything);
    assert_eq!(held(&whole, "done").await, states.done);
    let mut seen = [0; 3];
    for (step, loss, variant) in
        (0..steps).flat_map(|step| Loss::ALL.into_iter().flat_map(move |loss| (0..4).map(move |v| (step, loss, v))))
    {
        let context = format!("step {step} of {steps}, {loss:?} {variant}");
        let disk = survivor().fork(step * 4 + variant);
        disk.crash_at(step);
        assert!(begin(&disk, NEW).await.is_err(), "{context}: the machine is down");
        disk.power_cut(loss);
        let state = states.number(&held(&disk.fork(1), &context).await, &context);
        seen[state] += 1;
        // Again, and a crash in that, and then once more.
        let again = disk.fork(2);
        let before = again.counts().steps();
        again.crash_at(variant * 5);
        if begin(&again, LATER).await.is_err() {
            assert!(again.is_down(), "{context}");
            again.power_cut(loss);
        }
        assert!(again.counts().steps() > before || variant == 0);
        for (disk, twice) in [(disk, false), (again, true)] {
            let begun = begin(&disk, LATER).await.unwrap_or_else(|error| panic!("{context}, again: {error}"));
            assert!(begun.last_index >= LAST, "{context}");
            disk.power_cut(Loss::Everything);
            let last = held(&disk, &context).await;
            assert_eq!(last.cluster, Some(LATER.0), "{context}");
            assert!(last.entries.starts_with(&states.old.entries), "{context}: {last:?}");
            // Whatever was begun before is one more entry of the same kind.
            let new = &last.entries[states.old.entries.len()..];
            assert!((1..=2 + usize::from(twice)).contains(&new.len()), "{context}: {last:?}");
            assert!(new.iter().all(|(_, _, voters)| *voters == Some(vec![7])), "{context}: {last:?}");
            assert!(last.voted == new.last().map(|(term, _, _)| *term), "{context}: {last:?}");
        }
    }
    assert!(seen.iter().all(|count| *count > 10), "every state is left by some crash: {seen:?}");
}

/// Each write, sync and change of a name fails once. Whoever is told that nothing has changed finds that nothing has; whoever is
/// told to do it again can.
#[tokio::test]
async fn a_failure_while_a_new_cluster_is_begun_says_whether_anything_was_changed() {
    let states = States::new().await;
    let whole = survivor();
    let before = whole.counts();
    begin(&whole, NEW).await.unwrap();
    let after = whole.counts();
    let calls = [
        ("write", after.writes - before.writes),
        ("sync", after.syncs - before.syncs),
        ("name", after.names - before.names),
    ];
    let mut said = 0;
    for (call, which) in calls.into_iter().flat_map(|(call, count)| (0..count).map(move |which| (call, which))) {
        let context = format!("{call} {which}");
        let disk = survivor();
        match call {
            "write" => disk.fail_write(which),
            "sync" => disk.fail_sync(which),
            _ => disk.fail_name(which),
        }
        let Err(error) = begin(&disk, NEW).await else { continue };
        disk.mend();
        disk.kill();
        let state = states.number(&held(&disk.fork(1), &context).await, &context);
        match error {
            SurvivorError::Write(_) => said += 1,
            error => assert_eq!(state, 0, "{context}: {error}"),
        }
        begin(&disk, LATER).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    assert!(said > 3, "{said} failures came behind the first change");
}
