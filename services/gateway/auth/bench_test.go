package auth

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// expensive writes a password file of n users at bcrypt cost 10.
func expensive(b *testing.B, n int) *Chain {
	b.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), 10)
	if err != nil {
		b.Fatal(err)
	}
	var text []byte
	for i := range n {
		text = fmt.Appendf(text, "user%d:%s\n", i, hash)
	}
	file := filepath.Join(b.TempDir(), "htpasswd")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		b.Fatal(err)
	}
	return fileChain(b, file)
}

// BenchmarkPasswords is what a request costs whose password is known, with 50
// clients at bcrypt cost 10. TestS044OneHashPerClientAndTime is about the hashes.
func BenchmarkPasswords(b *testing.B) {
	c := expensive(b, 50)
	requests := make([]*http.Request, 50)
	for i := range requests {
		requests[i] = request("Authorization: " + basic(fmt.Sprint("user", i), "sesame"))
		if _, err := c.Authenticate(requests[i], Wants{}); err != nil {
			b.Fatal(err)
		}
	}
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Authenticate(requests[next.Add(1)%50], Wants{}); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkS044Guesses prints what a client that is known notices of 200 wrong
// passwords at a time: the 50th and 99th of 100 times that its requests took, in
// microseconds, without and with them.
func BenchmarkS044Guesses(b *testing.B) {
	c := expensive(b, 1)
	known := request("Authorization: " + basic("user0", "sesame"))
	if _, err := c.Authenticate(known, Wants{}); err != nil {
		b.Fatal(err)
	}
	measure := func(name string) {
		var took []time.Duration
		for range 500 {
			began := time.Now()
			if _, err := c.Authenticate(known, Wants{}); err != nil {
				b.Error(err)
			}
			took = append(took, time.Since(began))
			time.Sleep(time.Millisecond)
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, name+"-p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, name+"-p99-µs")
	}
	for b.Loop() {
		measure("quiet")
		var all sync.WaitGroup
		ctx, stop := context.WithCancel(b.Context()) // who waits for a hash leaves; the hashes go on
		for i := range 200 {
			all.Go(func() {
				r := request("Authorization: " + basic("user0", "")).WithContext(ctx)
				for n := 0; ctx.Err() == nil; n++ {
					r.Header.Set("Authorization", basic(fmt.Sprintf("guess%d", i), fmt.Sprint(n)))
					r.RemoteAddr = fmt.Sprintf("10.0.%d.%d:1", i, n%250)
					if _, err := c.Authenticate(r, Wants{}); err == nil {
						b.Error("a guess was right")
					}
					time.Sleep(20 * time.Millisecond) // the way there and back
				}
			})
		}
		measure("guessed")
		stop()
		all.Wait()
	}
}
