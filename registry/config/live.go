package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry/metrics"
)

// Live is the configuration of a program that runs. Who has keys that may change
// meanwhile subscribes to them; a new file takes effect for all subscribers or for
// none. Methods may be called by many goroutines, and on nil, which never changes.
type Live struct {
	load    func() (*Config, []Warning, error)
	log     *slog.Logger
	started *Config // what those keys are by that nobody applies
	current atomic.Pointer[Config]

	mu    sync.Mutex // held while reloading; guards the rest
	parts []part
	uses  []string // keys that the program may have a use for; nil: all
	told  string   // the keys that need a restart, as last logged

	applied, refused, unchanged *metrics.Counter
	good, at, pending           *metrics.Gauge
}

// part is somebody who applies keys while the program runs.
type part struct {
	keys    []string
	prepare Prepare
}

// Prepare makes ready what a new configuration asks for, and returns the function
// that puts it to work, which can't fail, is quick, and is called once all others
// are ready, too. If it returns an error the old configuration stays, for everybody;
// commit may never be called, so prepare must hold nothing that has to be closed
// unless commit does so. What a request has begun under the old configuration
// it may end under it.
type Prepare func(ctx context.Context, next *Config) (commit func(), err error)

// NewLive returns the configuration of a program that was started with first. load
// reads the file again, with all checks, such as [LoadFor].
func NewLive(first *Config, load func() (*Config, []Warning, error), log *slog.Logger, m *metrics.Set) *Live {
	const name, help = "berth_config_reloads_total", "Times the configuration was read again, by what became of it."
	l := &Live{
		load: load, log: log, started: first,
		applied:   m.Counter(name, help, "result", "applied"),
		refused:   m.Counter(name, help, "result", "refused"),
		unchanged: m.Counter(name, help, "result", "unchanged"),
		good:      m.Gauge("berth_config_reload_success", "Whether the configuration could be used when it was last read: 1 or 0."),
		at:        m.Gauge("berth_config_applied_timestamp_seconds", "When the configuration in use was read, in seconds since 1970."),
		pending:   m.Gauge("berth_config_restart_needed", "How many keys of the file take effect only when the program starts again."),
	}
	l.current.Store(first)
	l.good.Set(1)
	l.at.Set(time.Now().Unix())
	return l
}

// Current returns the configuration in use. Keys that nobody applies have their new
// value in it; nobody should look at them.
func (l *Live) Current() *Config { return l.current.Load() }

// Subscribe has prepare called whenever one of keys, or a key below them, has
// changed ("http.auth", "storage.retention"); * stands for a name of the user's choice
// ("storage.subPaths.*.gc"), and a key with - before it is none of them ("-http.auth.ldap").
// It is called by one goroutine at a time.
func (l *Live) Subscribe(prepare Prepare, keys ...string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts = append(l.parts, part{keys, prepare})
}

// Applies reports whether a change of a key takes effect while the program runs.
func (l *Live) Applies(key string) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.parts, func(p part) bool { return p.covers(keyParts(strings.Split(key, "."))) })
}

// waits reports whether nobody applies key as a whole, and the program has a use for it.
func (l *Live) waits(key keyParts) bool {
	return !slices.ContainsFunc(l.parts, func(p part) bool { return p.applies(key) }) && l.usesKey(key)
}

// applies reports whether p applies all of key.
func (p part) applies(key keyParts) bool {
	return slices.ContainsFunc(p.keys, key.below) && p.covers(key)
}

// covers reports whether p applies key, or a part of it.
func (p part) covers(key keyParts) bool {
	for _, k := range p.keys {
		if not, ok := strings.CutPrefix(k, "-"); ok && key.below(not) {
			return false
		}
	}
	return slices.ContainsFunc(p.keys, func(k string) bool { return key.related(strings.Split(k, ".")) })
}

// keyParts is a key by its parts, of which those that users choose may have dots.
type keyParts []string

func (k keyParts) String() string { return strings.Join(k, ".") }

// related reports whether k is pattern, or stands above or below it.
func (k keyParts) related(pattern []string) bool {
	for i := range min(len(k), len(pattern)) {
		if pattern[i] != "*" && pattern[i] != k[i] {
			return false
		}
	}
	return true
}

// Reload reads the file again. If it can't be used, or a subscriber can't apply it,
// all stays as it is, and the error, which is logged and counted, says why.
func (l *Live) Reload(ctx context.Context) error {
	if l == nil || l.load == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	next, warnings, err := l.load()
	if err == nil {
		err = l.apply(ctx, next, warnings)
	}
	if err != nil {
		l.refused.Inc()
		l.good.Set(0)
		l.log.ErrorContext(ctx, "the new configuration can't be used; going on with the old one", "error", err.Error())
		return err
	}
	l.good.Set(1)
	return nil
}

func (l *Live) apply(ctx context.Context, next *Config, warnings []Warning) error {
	keys := differences(l.current.Load(), next)
	if len(keys) == 0 {
		l.unchanged.Inc()
		return nil
	}
	var commits []func()
	var errs []error
	for _, p := range l.parts {
		if !slices.ContainsFunc(keys, p.covers) {
			continue
		}
		commit, err := p.prepare(ctx, next)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", strings.Join(p.keys, ", "), err))
		} else if commit != nil {
			commits = append(commits, commit)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, commit := range commits {
		commit()
	}
	l.current.Store(next)
	l.applied.Inc()
	l.at.Set(time.Now().Unix())
	for _, w := range warnings {
		l.log.WarnContext(ctx, w.String())
	}
	l.log.InfoContext(ctx, "the configuration was read again", "applied", texts(slices.DeleteFunc(slices.Clone(keys), l.waits)))
	l.restart(ctx, next)
	return nil
}

// restart tells which keys of next differ from what the program started with, and
// have no effect on it.
func (l *Live) restart(ctx context.Context, next *Config) {
	late := texts(slices.DeleteFunc(differences(l.started, next), func(k keyParts) bool { return !l.waits(k) }))
	l.pending.Set(int64(len(late)))
	if text := strings.Join(late, ", "); text != l.told {
		l.told = text
		if text != "" {
			l.log.WarnContext(ctx, "a change of the configuration needs a restart: these keys keep the values that the program was started with", "keys", late)
		}
	}
}

// texts returns sorted keys as they are written, without those below others.
func texts(keys []keyParts) (all []string) {
	var above keyParts
	for _, k := range keys {
		if above == nil || len(k) < len(above) || !slices.Equal(k[:len(above)], above) {
			all = append(all, k.String())
			above = k
		}
	}
	return all
}

// Changed returns the keys by which two configurations differ. Of lists, and of blocks
// that only one of both has, it returns the key itself.
func Changed(a, b *Config) []string { return texts(differences(a, b)) }

// differences returns the keys by which two configurations differ, sorted: of a block that
// only one of both has it and what it has in it.
func differences(a, b *Config) []keyParts {
	var keys []keyParts
	// All that this block has is absent without it.
	x, y := *a, *b
	for _, c := range []*Config{&x, &y} {
		if c.Extensions == nil {
			c.Extensions = new(Extensions)
		}
	}
	differ(reflect.ValueOf(x), reflect.ValueOf(y), nil, &keys)
	slices.SortFunc(keys, func(a, b keyParts) int { return slices.Compare(a, b) })
	return keys
}

func differ(a, b reflect.Value, at keyParts, keys *[]keyParts) {
	if a.Kind() == reflect.Pointer && a.Type().Elem().Kind() == reflect.Struct {
		if a.IsNil() && b.IsNil() {
			return
		}
		if a.IsNil() || b.IsNil() {
			*keys = append(*keys, at)
		}
		a, b = blockOf(a), blockOf(b)
	}
	switch {
	case a.Kind() == reflect.Struct:
		for _, f := range reflect.VisibleFields(a.Type()) {
			if name := f.Tag.Get("json"); name != "" {
				differ(a.FieldByIndex(f.Index), b.FieldByIndex(f.Index), append(slices.Clip(at), name), keys)
			}
		}
	case a.Kind() == reflect.Map && a.Type().Elem().Kind() == reflect.Struct:
		differInMap(a, b, at, keys)
	case !reflect.DeepEqual(a.Interface(), b.Interface()):
		*keys = append(*keys, at)
	}
}

// blockOf returns what a pointer to a block leads to, an empty one if it leads nowhere.
func blockOf(p reflect.Value) reflect.Value {
	if p.IsNil() {
		return reflect.Zero(p.Type().Elem())
	}
	return p.Elem()
}

// differInMap is differ for blocks by a name of the user's choice.
func differInMap(a, b reflect.Value, at keyParts, keys *[]keyParts) {
	for _, k := range a.MapKeys() {
		name := append(slices.Clip(at), k.String())
		if other := b.MapIndex(k); other.IsValid() {
			differ(a.MapIndex(k), other, name, keys)
		} else {
			*keys = append(*keys, name)
		}
	}
	for _, k := range b.MapKeys() {
		if !a.MapIndex(k).IsValid() {
			*keys = append(*keys, append(slices.Clip(at), k.String()))
		}
	}
}
