package governor

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/writ-run/writ/internal/keys"
	"github.com/writ-run/writ/internal/model"
)

// OrderPredicate is the in-toto predicate type of an operator's order.
const OrderPredicate = "https://writ.run/order/v1"

// orderFor is how long after its signing an order is taken.
const orderFor = time.Minute

var (
	// ErrOrderStale is returned for an order that was signed too long ago, or in the future.
	ErrOrderStale = errors.New("the order was not signed just now")
	// ErrOrderElsewhere is returned for an order to another execution.
	ErrOrderElsewhere = errors.New("the order is for another execution")
	// ErrOrderRepeated is returned for an order that was carried out already.
	ErrOrderRepeated = errors.New("the order was given before")
)

// signedOrder is the predicate that the operator signs. Its subject is the
// execution, so that an order cannot be turned on another.
type signedOrder struct {
	Execution model.ExecutionID `json:"execution"`
	Order     model.OrderKind   `json:"order"`
	Reason    string            `json:"reason"`
	Operator  string            `json:"operator"`
	SignedAt  int64             `json:"signed_at"` // nanoseconds since 1970
}

// SealOrder signs an order to one execution, good for a minute.
func SealOrder(key *keys.Key, id model.ExecutionID, kind model.OrderKind, operator, reason string, wall int64) ([]byte, error) {
	about := keys.Subject{Name: string(id), Digest: model.DigestOf([]byte(id))}
	return keys.Seal(key, OrderPredicate, about, signedOrder{
		Execution: id, Order: kind, Reason: reason, Operator: operator, SignedAt: wall,
	})
}

// openOrder checks a signed order to the execution.
func openOrder(envelope []byte, trust *keys.Trust, id model.ExecutionID, wall int64) (model.Order, error) {
	var o signedOrder
	if _, err := keys.Unseal(envelope, trust, OrderPredicate, &o, keys.Operator); err != nil {
		return model.Order{}, fmt.Errorf("checking the order: %w", err)
	}
	if o.Execution != id {
		return model.Order{}, fmt.Errorf("checking the order: %w", ErrOrderElsewhere)
	}
	if age := time.Duration(wall - o.SignedAt); age > orderFor || age < -orderFor {
		return model.Order{}, fmt.Errorf("checking the order: %w", ErrOrderStale)
	}
	return model.Order{Kind: o.Order, Operator: o.Operator, Reason: o.Reason, Envelope: envelope}, nil
}

// seen remembers the orders of the last while, so that none is taken twice.
type seen struct {
	mu     sync.Mutex
	orders map[model.Digest]int64 // until when it could be given again, wall
}

// take tells whether the order is new, and remembers it.
func (s *seen) take(order model.Digest, wall int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.orders == nil {
		s.orders = map[model.Digest]int64{}
	}
	for d, until := range s.orders {
		if wall > until {
			delete(s.orders, d)
		}
	}
	_, again := s.orders[order]
	s.orders[order] = wall + 2*int64(orderFor)
	return !again
}
