package disk_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
)

// endless is a reader of the same bytes over and over.
type endless struct {
	block []byte
	at    int
}

func newEndless() *endless {
	e := &endless{block: make([]byte, 1<<20+4093)}
	_, _ = rand.NewChaCha8([32]byte{}).Read(e.block) // never fails
	return e
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.block[e.at:])
	e.at = (e.at + n) % len(e.block)
	return n, nil
}

func benchStore(b *testing.B) *blobstore.Store {
	b.Helper()
	d, err := disk.Open(b.TempDir(), disk.Options{Durable: true})
	if err != nil {
		b.Fatal(err)
	}
	s, err := blobstore.Open(b.Context(), map[registry.Pool]blobstore.Driver{"": d}, blobstore.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// cpu returns how long this process has used a processor.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const gib = 1 << 30

// sha256Time returns how long it takes to hash 1 GiB that is in the cache.
func sha256Time() time.Duration {
	block := newEndless().block[:1<<16]
	h, start := sha256.New(), time.Now()
	for range gib / len(block) {
		h.Write(block)
	}
	return time.Since(start)
}

// benchPut stores 1 GiB again and again, from readers that open makes.
func benchPut(b *testing.B, open func() io.Reader) {
	s := benchStore(b)
	h := sha256.New()
	if _, err := io.CopyN(h, newEndless(), gib); err != nil {
		b.Fatal(err)
	}
	want := registry.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
	var wall, used, plain time.Duration
	n := 0
	for b.Loop() {
		u, err := s.Start(b.Context(), "", registry.SHA256)
		if err != nil {
			b.Fatal(err)
		}
		plain += sha256Time() // each time, as the machine may have other work
		r := open()
		start, before := time.Now(), cpu(b)
		stored, err := s.Commit(b.Context(), u, r, want)
		if err != nil {
			b.Fatal(err)
		}
		wall += time.Since(start)
		used += cpu(b) - before
		n++
		if err := s.Remove(b.Context(), stored); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(wall.Seconds()*1e9/float64(n), "ns/op")
	b.ReportMetric(float64(n)*gib/1e6/wall.Seconds(), "MB/s")
	b.ReportMetric(plain.Seconds()/wall.Seconds(), "×SHA-256")
	b.ReportMetric(used.Seconds()/float64(n), "CPU-s/GiB")
}

// BenchmarkPut1GiB stores a GiB that comes from memory, durably.
func BenchmarkPut1GiB(b *testing.B) {
	benchPut(b, func() io.Reader { return io.LimitReader(newEndless(), gib) })
}

// BenchmarkPut1GiBFromTCP is the same with bytes from a socket. Its CPU figure
// holds the sender's work, too.
func BenchmarkPut1GiBFromTCP(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	benchPut(b, func() io.Reader {
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			buf := make([]byte, 64<<10)
			_, _ = io.CopyBuffer(struct{ io.Writer }{c}, io.LimitReader(newEndless(), gib), buf)
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		return c
	})
}

// BenchmarkPutSmall stores blobs of 1 KiB durably: POST with body.
func BenchmarkPutSmall(b *testing.B) {
	s := benchStore(b)
	data := make([]byte, 1024)
	rnd := rand.NewChaCha8([32]byte{})
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		_, _ = rnd.Read(data) // never fails
		put(b, s, data)
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "CPU-µs/op")
}

// BenchmarkPlainSmall is what BenchmarkPutSmall is to be compared with: a program
// that does nothing but write the same file durably.
func BenchmarkPlainSmall(b *testing.B) {
	dir := b.TempDir()
	data := make([]byte, 1024)
	n := 0
	before := cpu(b)
	for b.Loop() {
		n++
		name := filepath.Join(dir, strconv.Itoa(n))
		f, err := os.Create(name + ".new")
		if err != nil {
			b.Fatal(err)
		}
		d, err := os.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		_, err = f.Write(data)
		err = errors.Join(err, f.Sync(), f.Close(), os.Rename(name+".new", name), d.Sync(), d.Close())
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "CPU-µs/op")
}

// BenchmarkPutSmallParallel is BenchmarkPutSmall by eight clients at once.
func BenchmarkPutSmallParallel(b *testing.B) {
	s := benchStore(b)
	b.SetParallelism(4)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		data := make([]byte, 1024)
		for pb.Next() {
			rnd := rand.Uint64()
			for i := range 8 {
				data[i] = byte(rnd >> (8 * i))
			}
			put(b, s, data)
		}
	})
}

func put(b *testing.B, s *blobstore.Store, data []byte) registry.Stored {
	b.Helper()
	u, err := s.Start(b.Context(), "", registry.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	stored, err := s.Commit(b.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data))
	if err != nil {
		b.Fatal(err)
	}
	return stored
}

// BenchmarkOpenSmall reads a blob of 1 KiB.
func BenchmarkOpenSmall(b *testing.B) {
	s := benchStore(b)
	stored := put(b, s, make([]byte, 1024))
	buf := make([]byte, 2048)
	b.ReportAllocs()
	for b.Loop() {
		c, err := s.Open(b.Context(), stored, registry.Whole)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf[:1024]); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
