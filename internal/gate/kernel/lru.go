package kernel

import "container/list"

// lru keeps the limit most recently used values. It is not safe for use by
// several goroutines.
type lru[K comparable, V any] struct {
	limit  int
	values map[K]*list.Element
	order  list.List // front is the most recent
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](limit int) *lru[K, V] {
	return &lru[K, V]{limit: limit, values: make(map[K]*list.Element)}
}

func (l *lru[K, V]) get(key K) (V, bool) {
	if e, ok := l.values[key]; ok {
		l.order.MoveToFront(e)
		return e.Value.(lruEntry[K, V]).value, true
	}
	var none V
	return none, false
}

func (l *lru[K, V]) put(key K, value V) {
	if e, ok := l.values[key]; ok {
		e.Value = lruEntry[K, V]{key, value}
		l.order.MoveToFront(e)
		return
	}
	l.values[key] = l.order.PushFront(lruEntry[K, V]{key, value})
	if l.order.Len() > l.limit {
		oldest := l.order.Back()
		l.order.Remove(oldest)
		delete(l.values, oldest.Value.(lruEntry[K, V]).key)
	}
}
