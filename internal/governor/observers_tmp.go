package governor

import (
	"time"

	"github.com/writ-run/writ/internal/model"
)

type watch struct{}

func (e *execution) integrityFault(reason, detail string) {}
func (e *execution) observe()                             {}
func (e *execution) startObservers() error {
	e.aside(func() {
		for e.ctx.Err() == nil {
			for _, c := range model.AllConditions() {
				mono, _ := e.clock()
				e.tell(model.Input{Kind: model.InputObserve, Observation: &model.Observation{Condition: c, Verdict: model.VerdictValid, ObservedAt: mono, ValidUntil: mono + 5e9}})
			}
			select {
			case <-e.ctx.Done():
			case <-time.After(1500 * time.Millisecond):
			}
		}
	})
	return nil
}
