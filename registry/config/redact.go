package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// Redacted returns the whole configuration as JSON, defaults included, without
// its secrets. Keys that are off are left out.
func (c *Config) Redacted() []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(redact("", reflect.ValueOf(c).Elem())); err != nil {
		panic(err) // redact returns maps, lists and scalars only
	}
	return out.Bytes()
}

// String is [Config.Redacted], so that printing a Config gives nothing away.
func (c *Config) String() string { return string(c.Redacted()) }

// MarshalJSON is [Config.Redacted].
func (c *Config) MarshalJSON() ([]byte, error) { return c.Redacted(), nil }

// LogValue keeps slog from looking into a Config.
func (c *Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON hides what may be a secret.
func (d Driver) MarshalJSON() ([]byte, error) { return json.Marshal(hideFree("", map[string]any(d))) }

// String hides what may be a secret.
func (d Driver) String() string { return fmt.Sprint(hideFree("", map[string]any(d))) }

// GoString hides what may be a secret from %#v.
func (d Driver) GoString() string { return d.String() }

// LogValue hides what may be a secret from slog.
func (d Driver) LogValue() slog.Value { return slog.StringValue(d.String()) }

// redact returns v as plain values, or nil if it is zero.
func redact(key string, v reflect.Value) any {
	switch x := v.Interface().(type) {
	case time.Duration:
		if x == 0 {
			return nil
		}
		return x.String()
	case Secret:
		if x == "" {
			return nil
		}
		return hidden
	case string:
		if x == "" {
			return nil
		}
		return hideUserinfo(x)
	case bool:
		return x
	case Driver:
		if len(x) == 0 {
			return nil
		}
		return hideFree("", map[string]any(x))
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return redact(key, v.Elem())
	case reflect.Struct:
		m := map[string]any{}
		for _, f := range reflect.VisibleFields(v.Type()) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				continue
			}
			if value := redact(name, v.FieldByIndex(f.Index)); value != nil {
				m[name] = value
			}
		}
		return m
	case reflect.Map:
		if v.Len() == 0 {
			return nil
		}
		m := map[string]any{}
		for it := v.MapRange(); it.Next(); {
			m[it.Key().String()] = redact(key, it.Value())
		}
		return m
	case reflect.Slice:
		if v.IsNil() {
			return nil
		}
		items := make([]any, v.Len())
		for i := range items {
			items[i] = redact(key, v.Index(i))
		}
		return items
	}
	if v.IsZero() {
		return nil
	}
	return v.Interface()
}

// hideFree hides what may be a secret in a driver's own keys.
func hideFree(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			m[k] = hideFree(k, x)
		}
		return m
	case []any:
		items := make([]any, len(v))
		for i, x := range v {
			items[i] = hideFree(key, x)
		}
		return items
	case string:
		for _, word := range []string{"pass", "secret", "accesskey", "accountkey", "token", "hashkey", "encryptkey"} {
			if strings.Contains(key, word) && !strings.HasSuffix(key, "file") {
				return hidden
			}
		}
		return hideUserinfo(v)
	default:
		return v
	}
}

// hideUserinfo takes the user and password out of a URL, or out of a repository like
// user:password@host/name, and the query, which may be a token.
func hideUserinfo(s string) string {
	if base, query, ok := strings.Cut(s, "?"); ok && query != "" && strings.Contains(base, "://") {
		s = base + "?" + hidden
	}
	host, _, _ := strings.Cut(s, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 && strings.Contains(host[:i], ":") {
		return hidden + s[i:]
	}
	if !strings.Contains(s, "://") || !strings.Contains(s, "@") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return hidden
	}
	if u.User != nil {
		u.User = nil
		scheme, rest, _ := strings.Cut(u.String(), "://")
		return scheme + "://" + hidden + "@" + rest
	}
	return s
}
