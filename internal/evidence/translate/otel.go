package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"
)

// OTel writes the log as spans in the OTLP file format (JSON): one for the
// execution and, below it, one for each decided action, from the moment it was
// asked for to its outcome. Each span names the records that it is made of, by
// index and digest. Trace and span IDs are made of the execution and the index,
// so that the same log gives the same spans.
func OTel(to io.Writer, s Source) error {
	var spans []object
	y, err := Read(s, func(y *Story, a Acted) error {
		spans = append(spans, actionSpan(y, a))
		return nil
	}, nil)
	if err != nil {
		return err
	}
	sub := y.Submission
	root := span(y, y.Submitted.Index, "execution "+sub.Agent, y.Submitted.Time, y.Last.Time)
	delete(root, "parentSpanId")
	root["attributes"] = append(root["attributes"].([]object), text("writ.phase", y.Phase.String()), text("writ.operator", sub.Operator), text("writ.bundle", sub.Bundle.String()), number("writ.last_record", y.Last.Index))
	b, err := Canonical(object{"resourceSpans": []object{{
		"resource": object{"attributes": []object{text("service.name", "writ"), text("host.name", sub.Host), text("writ.execution", string(sub.Execution)), text("writ.agent", sub.Agent)}},
		"scopeSpans": []object{{
			"scope": object{"name": "github.com/writ-run/writ"},
			"spans": append([]object{root}, spans...),
		}},
	}}})
	if err != nil {
		return err
	}
	_, err = to.Write(append(b, '\n'))
	return err
}

func actionSpan(y *Story, a Acted) object {
	end := a.Decided.Time
	if a.Ended != nil {
		end = a.Ended.Time
	}
	e := span(y, a.Decided.Index, "decide "+a.Action.Kind.String(), a.Asked.Time, end)
	r := a.Ruling.Decision
	attributes := append(e["attributes"].([]object),
		number("writ.record.asked", a.Asked.Index), text("writ.record.digest", a.Decided.Digest.String()), number("writ.action", a.Action.Number),
		text("writ.gate", a.Action.Gate), text("writ.resource", a.Action.Resource.ID), flag("writ.allow", r.Allow), text("writ.reason", r.Reason), text("writ.bundle", a.Ruling.Bundle.String()))
	var policies []object
	for _, p := range r.Policies {
		policies = append(policies, object{"stringValue": p.ID})
	}
	if len(policies) > 0 {
		attributes = append(attributes, object{"key": "writ.policies", "value": object{"arrayValue": object{"values": policies}}})
	}
	if a.Ended != nil {
		attributes = append(attributes, number("writ.record.outcome", a.Ended.Index), flag("writ.done", a.Outcome.Done))
		if !a.Outcome.Done {
			e["status"] = object{"code": 2, "message": fmt.Sprintf("errno %d %s", a.Outcome.Errno, a.Outcome.Detail)}
		}
	}
	e["attributes"] = attributes
	return e
}

// span is one that belongs to the record with the index.
func span(y *Story, index uint64, name string, from, until time.Time) object {
	id := string(y.Submission.Execution)
	nanos := func(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }
	return object{
		"traceId": identity(id, 16), "spanId": identity(fmt.Sprintf("%s/%d", id, index), 8), "parentSpanId": identity(fmt.Sprintf("%s/%d", id, y.Submitted.Index), 8),
		"name": name, "kind": 1, "startTimeUnixNano": nanos(from), "endTimeUnixNano": nanos(later(from, until)),
		"attributes": []object{number("writ.record", index)},
	}
}

// later is the end of a span: a clock that was set back does not end one before
// it begins.
func later(from, until time.Time) time.Time {
	if until.Before(from) {
		return from
	}
	return until
}

func identity(text string, n int) string {
	d := sha256.Sum256([]byte("writ.run/otel " + text))
	return hex.EncodeToString(d[:n])
}

func text(key, value string) object {
	return object{"key": key, "value": object{"stringValue": value}}
}

func number(key string, value uint64) object {
	return object{"key": key, "value": object{"intValue": strconv.FormatUint(value, 10)}}
}

func flag(key string, value bool) object {
	return object{"key": key, "value": object{"boolValue": value}}
}
