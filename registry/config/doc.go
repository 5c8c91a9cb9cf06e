// Package config reads the one configuration file every Berth program takes.
//
// The file is zot's, with a few keys of our own: JSON (with comments) or YAML,
// keys in any letter case, weakly typed, unknown keys refused by name and line.
// [Load] reads a file, [Parse] is the same without touching the world.
//
// One table (keys*.go) has a row for each key: its type, default, meaning and
// whether Berth honours it today. Decoding, the nearest-key hint, [Schema],
// [Reference] (docs/configuration.md) and [Config.Unbuilt] all come from it.
// To turn a feature on, change the status of its row.
//
// It owns no state, serves every program and needs nothing but the YAML parser.
// A [Config] is not changed after start, so it may be read concurrently.
package config

//go:generate go test -run TestReferenceIsCurrent . -update
