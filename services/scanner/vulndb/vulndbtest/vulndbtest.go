// Package vulndbtest makes small vulnerability databases, for tests.
package vulndbtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Advisory says that versions of a package have a vulnerability.
type Advisory struct {
	Bucket  string // "debian 12", "npm::GitHub Security Advisory npm"
	Package string
	ID      string
	Value   any // as Trivy's databases have it
}

// Fixed is the value of an advisory of an operating system.
type Fixed struct {
	FixedVersion string `json:",omitempty"`
	Status       int    `json:",omitempty"`
	Severity     int    `json:",omitempty"`
}

// Versions is the value of an advisory of a language.
type Versions struct {
	PatchedVersions    []string
	VulnerableVersions []string
}

// Details is what is told of a vulnerability.
type Details struct {
	Title          string
	Description    string
	Severity       string
	VendorSeverity map[string]int `json:",omitempty"`
}

// Write makes a database and returns the name of its file.
func Write(t testing.TB, all []Advisory, details map[string]Details) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "trivy.db")
	db, err := bolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		put := func(value any, key string, buckets ...string) error {
			b, err := tx.CreateBucketIfNotExists([]byte(buckets[0]))
			for _, name := range buckets[1:] {
				if err == nil {
					b, err = b.CreateBucketIfNotExists([]byte(name))
				}
			}
			if err != nil {
				return err
			}
			text, err := json.Marshal(value)
			if err != nil {
				return err
			}
			return b.Put([]byte(key), text)
		}
		if _, err := tx.CreateBucketIfNotExists([]byte("vulnerability")); err != nil {
			return err
		}
		for _, a := range all {
			if err := put(a.Value, a.ID, a.Bucket, a.Package); err != nil {
				return err
			}
		}
		for id, d := range details {
			if err := put(d, id, "vulnerability"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Archive returns a database as the layer of its artifact.
func Archive(t testing.TB, file string, made time.Time) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := json.Marshal(map[string]any{"Version": 2, "UpdatedAt": made, "NextUpdate": made.Add(24 * time.Hour), "DownloadedAt": made})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, f := range []struct {
		name string
		b    []byte
	}{{"trivy.db", b}, {"metadata.json", meta}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.b))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
