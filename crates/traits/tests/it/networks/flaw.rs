//! What can be wrong with a network, and the check that is meant for it.

/// One thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    LosesTheLastEntry,
    TurnsEntriesAround,
    CutsBigEntries,
    ForgetsWhatIsCommitted,
    ForgetsTheRound,
    GrantsEveryVote,
    TakesConflictsForErrors,
    SwallowsTransfers,
    StreamsAnswersTwice,
    StreamsOnAfterAnError,
    StreamsBeforeItIsPolled,
    NeverTimesOut,
    TakesTimeoutsForBrokenConnections,
    GivesLateAnswersToOthers,
    NeverConnectsAgain,
    ConnectsWhenItIsMade,
    SaysThatNobodyHasAnswered,
    BelievesAnybody,
    HasOneLane,
    LosesTheEndOfSnapshots,
    ForgetsTheMembershipOfSnapshots,
}

impl Flaw {
    /// Every flaw, and the check that is meant for it.
    pub(crate) const ALL: [(Self, &str); 21] = [
        (Self::LosesTheLastEntry, "entries_of_every_kind_arrive_whole"),
        (Self::TurnsEntriesAround, "many_entries_arrive_in_order"),
        (Self::CutsBigEntries, "a_big_entry_arrives_whole"),
        (Self::ForgetsWhatIsCommitted, "an_append_without_entries_arrives"),
        (Self::ForgetsTheRound, "a_heartbeat_arrives_and_its_answer_comes_back"),
        (Self::GrantsEveryVote, "a_refused_vote_comes_back_with_what_was_promised"),
        (Self::TakesConflictsForErrors, "every_outcome_of_an_append_comes_back"),
        (Self::SwallowsTransfers, "a_transfer_arrives"),
        (Self::StreamsAnswersTwice, "a_stream_answers_every_request_in_order"),
        (Self::StreamsOnAfterAnError, "a_stream_ends_after_its_first_error"),
        (Self::StreamsBeforeItIsPolled, "a_stream_asks_for_nothing_before_it_is_polled"),
        (Self::NeverTimesOut, "every_call_without_an_answer_times_out"),
        (Self::TakesTimeoutsForBrokenConnections, "every_call_without_an_answer_times_out"),
        (Self::GivesLateAnswersToOthers, "a_late_answer_is_nobody_s"),
        (Self::NeverConnectsAgain, "a_client_finds_a_server_that_is_back"),
        (Self::ConnectsWhenItIsMade, "making_a_client_needs_no_server"),
        (Self::SaysThatNobodyHasAnswered, "a_call_to_nobody_fails"),
        (Self::BelievesAnybody, "another_server_in_its_place_is_not_taken_for_the_target"),
        (Self::HasOneLane, "a_held_append_delays_no_vote"),
        (Self::LosesTheEndOfSnapshots, "a_snapshot_arrives_whole"),
        (Self::ForgetsTheMembershipOfSnapshots, "a_snapshot_arrives_whole"),
    ];
}
