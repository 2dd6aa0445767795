package problem

// reasons are the codes with which decisions, phases, freezes and kills are
// recorded.
var reasons = area{
	title: "Why something was denied or stopped",
	about: "The reasons of decisions and phases, as the evidence records them. `writ why ID` tells which policy decided, the state of the seven conditions then, and what would have allowed it.",
	entries: []Entry{
		refused("forbidden", "a policy forbids it", "a forbid always wins over every permit", "`writ why ID` names the forbid with file and line; change it or do without"),
		refused("no_permit", "no policy permits it", "nothing is allowed but what a policy permits", "`writ why ID` says what would permit it: a flag such as --read or --connect, or a policy"),
		refused("policy_error", "a policy failed to evaluate", "an error while deciding denies, whatever else permits", "mend the policy that `writ why ID` names"),
		refused("bad_request", "the request does not fit the schema", "a gate asked for something that policies have no words for", "ask for it in another way: shorter arguments, valid UTF-8, a clean path"),
		refused("unknown_bundle", "the bundle in force is not loaded", "without its policies nothing can be decided", "start the execution again"),
		refused("condition_lost", "one of the seven conditions does not hold", "an execution may act only while all seven hold", "`writ why ID` names the condition and its reason"),
		refused("not_running", "the execution was not running", "only a running execution may act", "`writ why ID` says why it was not"),
		refused("too_many_pending", "too many actions wait for the end of a pause", "what a paused execution asks for is kept waiting, but not without bound", "let the workload do less at once"),
		refused("malformed_input", "the governor was told something that makes no sense", "an input that cannot be understood changes nothing", "report it, with the output of `writ events ID`"),
		refused("no_submission", "something happened before there was an execution", "an execution begins with its submission", "report it, with the output of `writ events ID`"),
		refused("submitted_twice", "the execution was submitted twice", "what it is, is fixed for its whole life", "report it, with the output of `writ events ID`"),
		refused("bad_submission", "the execution cannot be governed", "its times, its command or its identity are missing or out of bounds", "check the settings of the policy: times must be positive, and lease.renew less than lease.length"),
		refused("ended", "the execution had ended", "nothing changes it any more", "start it again"),
		refused("bad_observation", "an observation came late or from the future", "a late word never overwrites a newer one", "nothing, if it happens now and then; look at the host's clock if it happens often"),
		refused("action_out_of_order", "an action was out of order", "actions are numbered without gaps", "report it, with the output of `writ events ID`"),
		refused("unknown_outcome", "an outcome belongs to no action", "each allowed action has exactly one outcome", "report it, with the output of `writ events ID`"),
		refused("unexpected_report", "a report came that nobody waited for", "only what was ordered can be reported on", "report it, with the output of `writ events ID`"),
		refused("not_adoptable", "there was nothing to take over", "only a workload that was let go, and is not being killed, can change its governor", "`writ why ID` says where it stood"),
		refused("unexpected_exit", "an end came that could not be", "a workload that never started cannot end", "report it, with the output of `writ events ID`"),
		refused("not_established", "the conditions were not all established in time", "it may start only when all seven were seen to hold", "`writ why ID` names those that are missing; a slow host may need a longer `admit` in the settings"),
		refused("arm_failed", "the enforcement could not be built", "the workload's first instruction runs only when all that holds it is armed", "`writ doctor` probes what is needed"),
		refused("arm_timed_out", "the enforcement was not built in time", "the workload's first instruction runs only when all that holds it is armed", "run it again; a slow host may need a longer `admit` in the settings"),
		refused("weaker_tier", "the enforcement came out weaker than what was admitted", "Writ never runs a workload under weaker enforcement than it said", "`writ doctor` probes what is missing"),
		refused("start_failed", "the workload could not be let go", "its guard ended or did not answer at the last step", "run it again; `writ events ID` shows how far it came"),
		refused("freeze_failed", "the workload could not be frozen", "what cannot be paused is terminated", "`writ doctor` probes what is needed"),
		refused("thaw_failed", "the workload could not be thawed", "it could not go on, so it was terminated", "`writ doctor` probes what is needed"),
		refused("lease_lapsed", "the lease was not renewed in time", "the governor or an observer was too slow or stood still", "a busy host may need a longer `lease.length` in the settings"),
		refused("pause_expired", "the pause lasted too long", "a pause ends in termination after its grace, or after the longest pause allowed", "resume in time, or set a longer @grace or `pause-limit`"),
		refused("order", "an operator ordered it", "operators' orders are honoured at once", "ask the operator whom `writ why ID` names"),
	},
}
