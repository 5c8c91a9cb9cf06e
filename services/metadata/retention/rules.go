package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// kept is why a rule keeps something. The zero value: none does.
type kept struct{ rule, limit string }

func (k kept) reason() string {
	if k.limit != "" {
		return fmt.Sprintf("retained by %s:%s policy", k.rule, k.limit)
	}
	return fmt.Sprintf("retained by %s policy", k.rule)
}

// apply returns for each of a group's images the first rule that keeps it.
func (r rules) apply(now time.Time, group []*Image) []kept {
	all := make([]kept, len(group))
	if r.empty() {
		for i := range all {
			all[i] = kept{rule: "patterns"}
		}
		return all
	}
	keep := func(i int, k kept) {
		if all[i].rule == "" {
			all[i] = k
		}
	}
	for _, i := range newest(group, r.mostPulled, func(m *Image) (int64, int64) { return m.Pulled, m.Pushed }) {
		keep(i, kept{"mostRecentlyPulledCount", fmt.Sprint(r.mostPulled)})
	}
	for _, i := range newest(group, r.mostPushed, func(m *Image) (int64, int64) { return m.Pushed, m.Pulled }) {
		keep(i, kept{"mostRecentlyPushedCount", fmt.Sprint(r.mostPushed)})
	}
	for i, m := range group {
		if within(now, r.pulledWithin, max(m.Pulled, m.Pushed)) {
			keep(i, kept{"pulledWithin", r.pulledWithin.String()})
		}
		if within(now, r.pushedWithin, m.Pushed) {
			keep(i, kept{"pushedWithin", r.pushedWithin.String()})
		}
	}
	return all
}

func within(now time.Time, limit *time.Duration, at int64) bool {
	return limit != nil && time.UnixMicro(at).After(now.Add(-*limit))
}

// newest returns where in a group the n images with the latest times are. Equal
// ones are taken by the second time, then by name, so that two runs agree.
func newest(group []*Image, n int, times func(*Image) (first, second int64)) []int {
	if n == 0 {
		return nil
	}
	order := make([]int, len(group))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := group[i], group[j]
		a1, a2 := times(a)
		b1, b2 := times(b)
		return cmp.Or(cmp.Compare(b1, a1), cmp.Compare(b2, a2), cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Digest, b.Digest))
	})
	return order[:min(n, len(order))]
}
