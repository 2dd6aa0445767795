package enforce

import (
	"testing"

	"github.com/writ-run/writ/internal/model"
)

func TestRuns(t *testing.T) {
	eachTier(t, func(t *testing.T, tier model.Tier) {
		s := spec(t, tier)
		t.Log(sh(t, s, "id; pwd; ls -la / /dev; cat /proc/self/status | grep -E 'Cap|NoNew|Secc'; ls /proc; cat /proc/self/mountinfo; ps ax; ip link 2>/dev/null || true; ulimit -c"))
	})
}
