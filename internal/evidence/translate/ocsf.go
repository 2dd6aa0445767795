package translate

import (
	"fmt"
	"io"
	"net/netip"
	"path"
	"strings"

	"github.com/writ-run/writ/internal/model"
)

// OCSFVersion is the version of the schema that the events follow.
const OCSFVersion = "1.9.0-dev"

// Classes of OCSF, and activities in them.
const (
	processActivity      = 1007 // 1 launch
	detectionFinding     = 2004 // 1 create, 3 close
	networkActivity      = 4001 // 1 open, 5 refuse
	applicationLifecycle = 6002 // 3 start, 4 stop
	apiActivity          = 6003

	other = 99
)

const (
	severityInformational = 1
	severityLow           = 2
	severityHigh          = 4

	// actions and dispositions of the profile security_control
	allowed = 1
	refused = 2

	statusSuccess = 1
	statusFailure = 2
)

type object = map[string]any

// OCSF writes the log as events of the Open Cybersecurity Schema Framework, a
// line of canonical JSON for each: one for every decided action, with its
// outcome; one for every phase, order, and decision to start; and a finding for
// every loss of a condition, closed when it holds again.
func OCSF(to io.Writer, s Source) error {
	lost := map[model.Condition]bool{}
	write := func(e object) error {
		b, err := Canonical(e)
		if err != nil {
			return err
		}
		_, err = to.Write(append(b, '\n'))
		return err
	}
	_, err := Read(s,
		func(y *Story, a Acted) error { return write(actedEvent(y, a)) },
		func(y *Story, c Changed) error {
			if e := changedEvent(y, c, lost); e != nil {
				return write(e)
			}
			return nil
		})
	return err
}

// event is what all events have.
func event(y *Story, at At, class, activity, severity int, profiles ...string) object {
	sub := y.Submission
	return object{
		"class_uid": class, "category_uid": class / 1000, "activity_id": activity, "type_uid": class*100 + activity,
		"severity_id": severity, "time": at.Time.UnixMilli(),
		"metadata": object{
			"version": OCSFVersion, "product": object{"name": "Writ", "vendor_name": "Writ"}, "profiles": profiles,
			"uid": fmt.Sprintf("%s/%d", sub.Execution, at.Index), "sequence": at.Index, "correlation_uid": string(sub.Execution), "log_name": "writ",
		},
		"unmapped": object{
			"writ.execution": string(sub.Execution), "writ.record": at.Index, "writ.record_digest": at.Digest.String(),
			"writ.agent": sub.Agent, "writ.operator": sub.Operator, "writ.grant": sub.GrantID, "writ.tier": sub.Tier.String(),
		},
	}
}

// put adds what is not mapped to the schema.
func (e eventOf) put(name string, v any) { e.object["unmapped"].(object)["writ."+name] = v }

type eventOf struct{ object }

// ruled adds a decision.
func ruled(e object, r model.Ruling) {
	x := eventOf{e}
	e["action_id"], e["disposition_id"] = allowed, allowed
	if !r.Decision.Allow {
		e["action_id"], e["disposition_id"] = refused, refused
	}
	e["status_code"] = r.Decision.Reason
	x.put("reason", r.Decision.Reason)
	x.put("bundle", r.Bundle.String())
	var names []string
	for _, p := range r.Decision.Policies {
		names = append(names, p.ID)
	}
	if len(names) > 0 {
		e["policy"] = object{"name": strings.Join(names, ", "), "uid": r.Bundle.String(), "is_applied": true}
	}
}

func actedEvent(y *Story, a Acted) object {
	e := classOf(y, a)
	ruled(e, a.Ruling)
	x := eventOf{e}
	x.put("action", a.Action.Number)
	x.put("gate", a.Action.Gate)
	x.put("asked_record", a.Asked.Index)
	e["message"] = fmt.Sprintf("%s %s: %s", a.Action.Kind, a.Action.Resource.ID, map[bool]string{true: "allowed", false: "denied"}[a.Ruling.Decision.Allow])
	if a.Outcome != nil {
		x.put("outcome_record", a.Ended.Index)
		e["status_id"] = statusSuccess
		if !a.Outcome.Done {
			e["status_id"] = statusFailure
			e["status_detail"] = strings.TrimSpace(fmt.Sprintf("errno %d %s", a.Outcome.Errno, a.Outcome.Detail))
		}
		e["duration"] = max(0, a.Ended.Time.Sub(a.Asked.Time).Milliseconds())
	}
	return e
}

// classOf makes the event of an action's class.
func classOf(y *Story, a Acted) object {
	severity := severityInformational
	if !a.Ruling.Decision.Allow {
		severity = severityLow
	}
	actor := object{"app_name": y.Submission.Agent, "app_uid": string(y.Submission.Execution), "process": process(a.Action.Process.PID, a.Action.Process.Executable, nil)}
	r := a.Action.Resource
	switch {
	case a.Action.Kind == model.ActionExec:
		e := event(y, a.Decided, processActivity, 1, severity, "host", "security_control")
		p := process(a.Action.Process.PID, r.ID, &r.Digest)
		if len(a.Action.Args) > 0 {
			p["cmd_line"] = strings.Join(a.Action.Args, " ")
		}
		e["actor"], e["device"], e["process"] = actor, device(y), p
		return e
	case a.Action.Kind == model.ActionConnect && r.Kind == model.ResourceHost:
		activity := 1
		if !a.Ruling.Decision.Allow {
			activity = 5
		}
		e := event(y, a.Decided, networkActivity, activity, severity, "host", "security_control")
		to := object{"port": int(r.Port)}
		if _, err := netip.ParseAddr(r.ID); err == nil {
			to["ip"] = r.ID
		} else {
			to["hostname"] = r.ID
		}
		e["actor"], e["device"], e["dst_endpoint"] = actor, device(y), to
		return e
	}
	e := event(y, a.Decided, apiActivity, other, severity, "host", "security_control")
	e["activity_name"] = a.Action.Kind.String()
	e["actor"], e["device"], e["src_endpoint"] = actor, device(y), object{"hostname": y.Submission.Host}
	api := object{"operation": a.Action.Kind.String()}
	if r.Server != "" {
		api["service"] = object{"name": r.Server}
	}
	e["api"], e["resources"] = api, []object{{"name": r.ID, "type": r.Kind.String()}}
	return e
}

func process(pid int64, executable string, digest *model.Digest) object {
	p := object{"pid": pid}
	if executable == "" {
		return p
	}
	f := object{"name": path.Base(executable), "path": executable, "type_id": 1}
	if digest != nil && !digest.IsZero() {
		f["hashes"] = []object{{"algorithm_id": 3, "value": strings.TrimPrefix(digest.String(), "sha256:")}}
	}
	p["name"], p["file"] = path.Base(executable), f
	return p
}

func device(y *Story) object { return object{"hostname": y.Submission.Host, "type_id": 0} }

func changedEvent(y *Story, c Changed, lost map[model.Condition]bool) object {
	lifecycle := func(activity int, name, message string, severity int, profiles ...string) object {
		e := event(y, c.At, applicationLifecycle, activity, severity, profiles...)
		if activity == other {
			e["activity_name"] = name
		}
		e["app"] = object{"name": y.Submission.Agent, "uid": string(y.Submission.Execution)}
		e["message"] = message
		return e
	}
	f := c.Effect
	switch {
	case c.Order != nil:
		e := lifecycle(other, "order", fmt.Sprintf("ordered: %s", c.Order.Kind), severityInformational, "host")
		e["actor"], e["device"] = object{"user": object{"name": c.Order.Operator}}, device(y)
		eventOf{e}.put("order_reason", c.Order.Reason)
		return e
	case f.Kind == model.EffectDecision:
		activity, name := 3, ""
		if f.Ruling.Kind != model.ActionStart {
			activity, name = other, f.Ruling.Kind.String()
		}
		severity := severityInformational
		if !f.Ruling.Decision.Allow {
			severity = severityHigh
		}
		e := lifecycle(activity, name, fmt.Sprintf("decided on %s: %s", f.Ruling.Kind, f.Ruling.Decision.Reason), severity, "security_control")
		ruled(e, *f.Ruling)
		return e
	case f.Kind == model.EffectPhase:
		activity := other
		switch {
		case f.Phase == model.Running:
			activity = 3
		case f.Phase.Final():
			activity = 4
		}
		severity := severityInformational
		if f.Phase == model.Terminating || f.Phase == model.Terminated || f.Phase == model.Denied {
			severity = severityHigh
		}
		e := lifecycle(activity, f.Phase.String(), fmt.Sprintf("%s (%s)", f.Phase, f.Reason), severity)
		eventOf{e}.put("phase", f.Phase.String())
		eventOf{e}.put("reason", f.Reason)
		return e
	}
	return finding(y, c, lost)
}

// finding is a condition that was lost, or holds again.
func finding(y *Story, c Changed, lost map[model.Condition]bool) object {
	s := c.Effect.Condition
	activity, severity, status := 1, severityHigh, 1
	if s.Standing == model.Holds {
		if !lost[s.Condition] {
			return nil // established for the first time
		}
		activity, severity, status = 3, severityInformational, 4
	}
	lost[s.Condition] = s.Standing != model.Holds
	e := event(y, c.At, detectionFinding, activity, severity, "security_control")
	e["finding_info"] = object{"uid": fmt.Sprintf("%s/%s", y.Submission.Execution, s.Condition), "title": fmt.Sprintf("condition %s: %s", s.Condition, s.Standing), "desc": strings.TrimSpace(s.Reason + " " + s.Detail)}
	e["is_alert"], e["status_id"] = s.Standing != model.Holds, status
	e["message"] = fmt.Sprintf("condition %s is %s", s.Condition, s.Standing)
	x := eventOf{e}
	x.put("condition", s.Condition.String())
	x.put("reason", s.Reason)
	return e
}
