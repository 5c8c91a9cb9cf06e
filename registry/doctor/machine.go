package doctor

import (
	"context"
	"net/http"
	"time"
)

const (
	// enoughFiles is how many descriptors a busy gateway needs.
	enoughFiles = 4096
	// skewWarn and skewFail are how far two clocks may be apart: S3 refuses
	// signatures from 15 minutes on.
	skewWarn = 5 * time.Second
	skewFail = 5 * time.Minute
)

// Files looks at how many files may be open.
func Files(limit func() (uint64, error)) Check {
	return func(_ context.Context, r *Report) {
		const check = "open files"
		switch n, err := limit(); {
		case err != nil:
			r.Warn(check, "", "can't be found out: %v", err)
		case n < enoughFiles:
			r.Warn(check, "raise it to 65536: LimitNOFILE= of the systemd unit, or ulimit -n", "the limit is %d", n)
		default:
			r.OK(check, "the limit is %d", n)
		}
	}
}

// Clock looks at the clock of this machine. synchronized tells whether something
// keeps it right.
func Clock(synchronized func() (bool, error)) Check {
	return func(_ context.Context, r *Report) {
		const check = "clock"
		now := time.Now()
		switch ok, err := synchronized(); {
		case now.Year() < 2025:
			r.Fail(check, "set it", "it says %s", now.Format(time.RFC3339))
		case err != nil:
			r.Warn(check, "", "whether it is kept right can't be found out: %v", err)
		case !ok:
			r.Warn(check, "run chrony or systemd-timesyncd: certificates, leases and signatures depend on it", "nothing keeps it synchronized")
		default:
			r.OK(check, "%s, synchronized", now.Format(time.RFC3339))
		}
	}
}

// Skew reports how far the clock of another machine, which said that it was then
// there between before and after here, is from ours.
func Skew(r *Report, check string, there, before, after time.Time) {
	off := there.Sub(before.Add(after.Sub(before) / 2)).Abs()
	off = max(off-after.Sub(before)/2, 0)
	const advice = "run chrony or systemd-timesyncd on both machines"
	switch {
	case off >= skewFail:
		r.Fail(check, advice, "its clock is %v from ours", off.Round(time.Second))
	case off >= skewWarn:
		r.Warn(check, advice, "its clock is %v from ours", off.Round(time.Second))
	default:
		r.OK(check, "its clock agrees with ours")
	}
}

// HTTPSkew compares our clock with that of a server that speaks HTTP.
func HTTPSkew(ctx context.Context, r *Report, check, url string, client *http.Client) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return // told by whoever really talks to it
	}
	before := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	there, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	// The header has whole seconds.
	Skew(r, check, there.Add(time.Second/2), before.Add(-time.Second/2), time.Now().Add(time.Second/2))
}
