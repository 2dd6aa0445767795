package problem

import "net/http"

var policies = area{
	title: "Policies and settings",
	about: "These point at file, line and column. Nothing starts under a policy that has one of them.",
	entries: []Entry{
		bad("policy_missing", "there is no such policy file", "nothing starts under a policy that is not there", "check the path; --policy takes a .cedar file, a settings .yaml file, or a directory of them"),
		bad("policy_unreadable", "a policy file cannot be read", "nothing starts under a policy that nobody can read", "`chmod` it so that you may read it"),
		bad("policy_bad_text", "the text holds what no policy may hold", "invisible and control characters make a policy show otherwise than it is read", "remove them; save the file as UTF-8"),
		bad("policy_too_large", "the policy is too large", "sizes are bounded so that no decision can be made slow", "divide it, or remove what is not needed on this host"),
		bad("policy_too_deep", "the policy is nested too deep", "evaluating it could exhaust the stack", "divide the condition into several policies"),
		bad("policy_syntax", "the policy does not parse", "what cannot be read cannot be enforced", "mend the place that the message names; see https://docs.cedarpolicy.com/policies/syntax-policy.html"),
		bad("policy_empty", "there is no policy", "with no policy nothing is permitted, not even the start", "write one, or remove the file"),
		bad("policy_unknown_action", "there is no such action", "the policy would never match", "use one of the schema's actions: start, continue, exec, connect, open, call_tool, call_model, http, delegate"),
		bad("policy_unknown_type", "there is no such entity type", "the policy would never match", "use one of the schema's types, such as Writ::Host or Writ::Directory"),
		bad("policy_unknown_attribute", "there is no such attribute", "evaluating it would be an error, and an error denies", "use one of the attributes that the schema gives the entity or the context"),
		bad("policy_unknown_word", "the attribute never has this text", "the comparison could never be true", "use one of the words that the message lists"),
		bad("policy_bad_entity", "there can be no such entity", "the policy would never match", "write paths clean and absolute, hosts as an address or a name"),
		bad("policy_type", "the policy does not fit the schema", "evaluating it could be an error, and an error denies", "mend the place that the message names; the schema is in docs/reference/schema.md"),
		bad("policy_annotation", "the annotation will not do", "an annotation that is not known would be ignored in silence", "use @id, @response, @grace, @via or @evidence, where each belongs"),
		bad("policy_duplicate", "something has the name of something else", "reasons name policies by their @id, file and line, which would be ambiguous", "rename one of them"),
		bad("policy_contradiction", "the policies contradict each other", "a permit that a forbid always overrides permits nothing", "remove one of the two, or narrow the forbid"),
		bad("policy_bad_name", "the file's name will not do", "reasons name policies by their file", "use a short relative path that ends in .cedar"),
		bad("policy_settings", "the settings do not read", "a setting that is not understood would be ignored in silence", "mend the line that the message names"),
		bad("policy_flag", "the flag cannot be turned into a policy", "--read, --write, --exec and --connect are compiled to policies of their own", "give a path that exists, or HOST:PORT"),
		bad("policy_schema", "the bundle was made for another schema", "its policies may mean something else here", "make the bundle again with this version of Writ"),
		refused("bundle_unsigned", "the bundle is not signed", "nobody answers for what it permits", "have it signed by an operator whose key is in the trust file"),
		refused("bundle_wrong_signature", "the bundle is signed by a key that is not trusted, or for something else", "whoever signed it has no say here", "have it signed by an operator whose key is in the trust file"),
		refused("bundle_expired", "the bundle has expired", "a policy past its expiry is not valid any more", "publish a newer version of it, with a later `expires` in its settings"),
		refused("bundle_rolled_back", "the bundle is older than one that was seen before", "going back to an older policy could bring back what was forbidden since", "publish it with a higher `version` in its settings"),
		refused("bundle_damaged", "the bundle is damaged", "its content is not what its digest says", "get an undamaged copy"),
	},
}

func bad(code, title, why, fix string) Entry {
	return Entry{Code: code, Title: title, Why: why, Fix: fix, Status: http.StatusBadRequest}
}

func refused(code, title, why, fix string) Entry {
	return Entry{Code: code, Title: title, Why: why, Fix: fix, Status: http.StatusForbidden}
}
