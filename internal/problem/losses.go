package problem

// losses are the reasons with which observers say that a condition is lost.
var losses = area{
	title: "Why a condition was lost",
	about: "The reasons that observers give, one condition after the other. What a loss leads to (deny, pause, terminate) is the policy's to say.",
	entries: []Entry{
		refused("budget_actions", "the budget of actions is spent", "the execution asked for more actions than it was given", "give it more: `writ run --budget actions=N`"),
	},
}
