package rest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	"github.com/berth-registry/berth/registry"
)

// endpoints are the paths of the API as the OpenAPI document has them. Requests
// are checked against the document that clients read, so that it can't promise
// anything else than what is done.
type endpoints map[string]endpoint

// endpoint is a path's methods, in lower case.
type endpoint map[string]struct {
	Parameters []parameter `json:"parameters"`
}

// parameter is a parameter of the OpenAPI document.
type parameter struct {
	Name string `json:"name"`
	In   string `json:"in"`   // "path" or "query"
	Type string `json:"type"` // "string", "integer" or "boolean"
}

// documented are the endpoints of [OpenAPI]. Reading them takes a millisecond, which
// no start of a program has to wait for.
var documented = sync.OnceValue(func() endpoints {
	var document struct {
		Paths endpoints `json:"paths"`
	}
	if err := json.Unmarshal(OpenAPI, &document); err != nil {
		panic(err) // it is a part of the program, and tested
	}
	return document.Paths
})

// allow returns the value of the Allow header.
func (e endpoint) allow() string {
	list := []string{http.MethodOptions}
	for method := range e {
		list = append(list, strings.ToUpper(method))
		if method == "get" {
			list = append(list, http.MethodHead)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// untemplate returns a pattern's path as it is in the document.
func untemplate(p runtime.Pattern) string {
	return strings.NewReplacer("=**}", "}", "=*}", "}").Replace(p.String())
}

// checkQuery returns an error if a query has a parameter that is not known, is
// there twice, or has a value of another type.
func checkQuery(known []parameter, query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return registry.ErrParameterInvalid.With("the query is malformed")
	}
	for name, list := range values {
		i := slices.IndexFunc(known, func(p parameter) bool { return p.Name == name && p.In == "query" })
		switch {
		case i < 0:
			return registry.ErrParameterInvalid.With("there is no parameter %q here", clip(name))
		case len(list) > 1:
			return registry.ErrParameterInvalid.With("parameter %s is there more than once", name)
		}
		if err := checkValue(known[i], list[0]); err != nil {
			return err
		}
	}
	return nil
}

func checkValue(p parameter, value string) error {
	switch p.Type {
	case "boolean":
		if value != "true" && value != "false" {
			return registry.ErrParameterInvalid.With("parameter %s must be true or false", p.Name)
		}
	case "integer":
		if _, err := strconv.ParseInt(value, 10, 32); err != nil {
			return registry.ErrParameterInvalid.With("parameter %s must be a number", p.Name)
		}
	default:
		if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return registry.ErrParameterInvalid.With("parameter %s must be text in UTF-8", p.Name)
		}
	}
	return nil
}

// clip shortens what a client sent for a message.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}
