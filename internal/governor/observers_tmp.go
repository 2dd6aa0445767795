package governor

import (
	"context"
	"time"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/observe"
)

type tmpObserver struct {
	e *execution
	c model.Condition
}

func (o tmpObserver) Condition() model.Condition { return o.c }
func (o tmpObserver) Rhythm() observe.Rhythm     { return observe.Usual }
func (o tmpObserver) Observe(context.Context) model.Observation {
	return observe.Clock(o.e.clock).Begin(o.c, 5*time.Second).Valid(model.Digest{}, "")
}
func tmpObservers(e *execution) []observe.Observer {
	return []observe.Observer{tmpObserver{e, model.Integrity}}
}
func (e *execution) integrityFault(reason, detail string) {}
