package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// S3 is the storageDriver of a pool in a bucket. Keys that zot takes and that
// change nothing here are not in it, see [Pool.S3].
type S3 struct {
	Bucket   string
	Region   string
	Endpoint string // URL; "": Amazon's, by region
	// RedirectEndpoint is the URL of the same server for clients that are sent
	// there; "": Endpoint.
	RedirectEndpoint string
	ForcePathStyle   bool   // http://endpoint/bucket instead of http://bucket.endpoint
	SkipVerify       bool   // accept any certificate
	RootDirectory    string // what keys begin with

	// No AccessKey: credentials come from the environment, a shared profile, a
	// web identity or instance metadata.
	AccessKey     Secret
	SecretKey     Secret
	SecretKeyFile string
	SessionToken  Secret
	Profile       string

	Encrypt      bool   // ask for server-side encryption
	KeyID        string // with this KMS key
	StorageClass string
	ObjectACL    string
	UserAgent    string
	DualStack    bool
	FIPS         bool
	Accelerate   bool

	// SingleWriter promises that no other process uses the bucket, for servers
	// without conditional writes.
	SingleWriter bool
}

// place returns where in the world the pool's bytes are, "" if that is not said:
// a directory, or the bucket and what its keys begin with.
func (p Pool) place() string {
	switch {
	case !p.Local():
		root, _ := p.StorageDriver["rootdirectory"].(string)
		bucket, _ := p.StorageDriver["bucket"].(string)
		endpoint, _ := p.StorageDriver["regionendpoint"].(string)
		return p.StorageDriver.Name() + ":" + endpoint + "/" + bucket + filepath.Clean("/"+root)
	case p.RootDirectory == "":
		return ""
	}
	return filepath.Clean(p.RootDirectory)
}

// s3Ignored are keys of other registries' S3 drivers that change nothing, and
// why.
var s3Ignored = map[string]string{
	"chunksize":                   "parts are always 8 MiB: servers such as R2 want them equal",
	"multipartcopychunksize":      "blobs are never copied when they are committed",
	"multipartcopymaxconcurrency": "blobs are never copied when they are committed",
	"multipartcopythresholdsize":  "blobs are never copied when they are committed",
	"loglevel":                    "requests are not logged: their headers hold signatures",
	"logs3apirequests":            "requests are not logged: their headers hold signatures",
	"logs3apiresponseheaders":     "requests are not logged: their headers hold signatures",
}

// S3 returns the storageDriver of p, which has the name s3, with zot's defaults.
// An error names each key that is wrong.
func (p Pool) S3() (S3, error) {
	s, _, errs := p.StorageDriver.s3()
	all := make([]error, len(errs))
	for i, err := range errs {
		all[i] = err
	}
	return s, errors.Join(all...)
}

// s3 is [Pool.S3], and returns a warning for each key that changes nothing.
func (d Driver) s3() (S3, []*driverError, []*driverError) {
	r := driverReader{keys: d, known: []string{"name"}}
	s := S3{
		Bucket:           r.text("bucket"),
		Region:           r.text("region"),
		Endpoint:         r.text("regionendpoint"),
		RedirectEndpoint: r.text("redirectendpoint"),
		SkipVerify:       r.bool("skipverify", false),
		RootDirectory:    r.text("rootdirectory"),
		AccessKey:        Secret(r.text("accesskey")),
		SecretKey:        Secret(r.text("secretkey")),
		SecretKeyFile:    r.text("secretkeyfile"),
		SessionToken:     Secret(r.text("sessiontoken")),
		Profile:          r.text("profile"),
		Encrypt:          r.bool("encrypt", false),
		KeyID:            r.text("keyid"),
		StorageClass:     strings.ToUpper(r.text("storageclass")),
		ObjectACL:        r.text("objectacl"),
		UserAgent:        r.text("useragent"),
		DualStack:        r.bool("usedualstack", false),
		FIPS:             r.bool("usefipsendpoint", false),
		Accelerate:       r.bool("accelerate", false),
		SingleWriter:     r.bool("singlewriter", false),
	}
	s.ForcePathStyle = r.bool("forcepathstyle", s.Endpoint != "")
	secure := r.bool("secure", true)
	r.require(s.Bucket != "", "bucket", "needed")
	r.require(s.Region != "" || s.Endpoint != "", "region", "needed, unless regionendpoint says where the bucket is")
	if s.Region == "" {
		s.Region = "us-east-1" // what servers without regions expect
	}
	if s.Endpoint != "" && !strings.Contains(s.Endpoint, "://") {
		s.Endpoint = map[bool]string{true: "https://", false: "http://"}[secure] + s.Endpoint
	}
	r.url("regionendpoint", s.Endpoint)
	r.url("redirectendpoint", s.RedirectEndpoint)
	r.require((s.AccessKey == "") == (s.SecretKey == "" && s.SecretKeyFile == ""), "accesskey", "give accesskey and secretkey (or secretkeyfile), or neither")
	r.require(s.SecretKey == "" || s.SecretKeyFile == "", "secretkeyfile", "give secretkey or secretkeyfile, not both")
	r.require(s.KeyID == "" || s.Encrypt, "keyid", "needs encrypt")
	r.require(r.bool("v4auth", true), "v4auth", "version 2 of the signature is not supported: servers take version 4")
	if s.StorageClass == "NONE" {
		s.StorageClass = "" // distribution's word for leaving it to the server
	}
	var warnings []*driverError
	for _, key := range sorted(s3Ignored) {
		if _, ok := d[key]; ok {
			warnings = append(warnings, &driverError{key, "changes nothing: " + s3Ignored[key]})
		}
		r.known = append(r.known, key)
	}
	if s.SkipVerify {
		warnings = append(warnings, &driverError{"skipverify", "whoever is between this program and the bucket can read and change everything"})
	}
	r.unknown()
	return s, warnings, r.errs
}

// elsewhere says what to do about storage drivers that zot and distribution have
// and Berth has not.
var elsewhere = map[string]string{
	"gcs": `Google Cloud Storage speaks S3's protocol: use "name": "s3", "regionendpoint": "https://storage.googleapis.com", "region": "auto", ` +
		`an HMAC key of a service account as accesskey and secretkey, and "singleWriter": true (it has no conditional writes of this kind)`,
	"azure": `Azure Blob Storage does not speak S3's protocol: run a gateway that does in front of it, such as versitygw azure, ` +
		`and use "name": "s3" with the gateway as "regionendpoint"`,
	"oss":   `Alibaba Cloud OSS speaks S3's protocol: use "name": "s3" with its S3 endpoint as "regionendpoint" and "forcepathstyle": false`,
	"swift": `Swift speaks S3's protocol with its s3api middleware: use "name": "s3" with it as "regionendpoint"`,
}

// driver checks the storageDriver of a pool.
func (ch *checker) driver(d Driver, at place) {
	switch name := d.Name(); {
	case len(d) == 0 || name == "local":
	case elsewhere[name] != "":
		ch.fail(at.with("name"), "%s is not built in: %s", name, elsewhere[name])
	case name != "s3":
		ch.fail(at.with("name"), "must be s3 or local")
	default:
		_, warnings, errs := d.s3()
		for _, err := range errs {
			ch.fail(at.with(err.key), "%s", err.text)
		}
		for _, w := range warnings {
			ch.warn(w.text, at.with(w.key)...)
		}
	}
}

// driverReader reads the keys of a driver map, weakly typed as all keys are.
type driverReader struct {
	keys  Driver
	known []string
	errs  []*driverError
}

func (r *driverReader) text(key string) string {
	r.known = append(r.known, key)
	switch v := r.keys[key].(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any, []any:
		r.require(false, key, "must be a string")
		return ""
	default:
		return fmt.Sprint(v)
	}
}

func (r *driverReader) bool(key string, otherwise bool) bool {
	r.known = append(r.known, key)
	switch v := r.keys[key].(type) {
	case nil:
		return otherwise
	case bool:
		return v
	case string:
		switch strings.ToLower(v) {
		case "true", "1", "t":
			return true
		case "false", "0", "f":
			return false
		case "":
			return otherwise
		}
	case int64:
		if v == 0 || v == 1 {
			return v == 1
		}
	}
	r.require(false, key, "must be true or false")
	return otherwise
}

func (r *driverReader) url(key, text string) {
	u, err := url.Parse(text)
	r.require(text == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil,
		key, "must be a URL that begins with http:// or https://")
}

func (r *driverReader) require(ok bool, key, text string) {
	if !ok {
		r.errs = append(r.errs, &driverError{key: key, text: text})
	}
}

// unknown complains about keys that nobody asked for.
func (r *driverReader) unknown() {
	for _, key := range sorted(r.keys) {
		if slices.Contains(r.known, key) {
			continue
		}
		text := "unknown key"
		if near := nearest(key, r.known); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
		r.require(false, key, text)
	}
}

// driverError is what is wrong with one key of a driver map.
type driverError struct{ key, text string }

// Error returns the error as text.
func (e *driverError) Error() string { return fmt.Sprintf("storageDriver.%s: %s", e.key, e.text) }
