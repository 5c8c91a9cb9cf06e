// Package cel evaluates the conditions of access rules, which are expressions of
// the Common Expression Language (https://cel.dev).
//
// An expression has these variables, as zot's have:
//
//	req.time, req.method, req.userAgent, req.action, req.repository, req.reference,
//	req.referenceType ("tag", "digest" or ""), req.tag, req.digest
//	user.username, user.groups
//	auth.anonymous, auth.admin
//	client.ip, client.forwardedFor (which anybody can write)
//	tls.enabled, tls.version
//	claims
//
// Nothing of the program or the machine can be reached from one, and what it may
// cost is bounded: by its length and its worst case when it is compiled, and by what
// it really takes when it is evaluated.
package cel

import (
	"encoding/json"
	"fmt"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/berth-registry/berth/registry/access"
)

// Bounds of an expression. A unit of cost is about one simple operation.
const (
	maxExpression = 4096 // bytes
	maxNesting    = 32
	maxCost       = 20_000
)

// condition is a compiled expression.
type condition struct{ program cel.Program }

// Compile compiles an expression, which must be true or false. It is an
// [access.Compiler].
func Compile(expression string) (access.Condition, error) {
	if len(expression) > maxExpression {
		return nil, fmt.Errorf("an expression has at most %d bytes", maxExpression)
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(expression)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("not an expression: %w", err)
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("the expression is a %s, not true or false", t)
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, fmt.Errorf("not an expression: %w", err)
	}
	return condition{program}, nil
}

func environment() (*cel.Env, error) {
	// Variables are maps, so that an expression that names a field there is not has no
	// value, and grants nothing.
	fields := cel.MapType(cel.StringType, cel.DynType)
	return cel.NewCustomEnv(
		cel.StdLib(),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.Variable("req", fields), cel.Variable("user", fields), cel.Variable("auth", fields),
		cel.Variable("client", fields), cel.Variable("tls", fields), cel.Variable("claims", fields),
	)
}

// Holds implements [access.Condition].
func (c condition) Holds(q access.Question) (bool, error) {
	out, _, err := c.program.Eval(variables(q))
	if err != nil {
		return false, fmt.Errorf("evaluating a condition: %w", err)
	}
	ok, is := out.Value().(bool)
	if !is {
		return false, fmt.Errorf("a condition is a %s, not true or false", out.Type().TypeName())
	}
	return ok, nil
}

// variables returns what an expression may ask of q.
func variables(q access.Question) map[string]any {
	kind := ""
	switch {
	case q.Ref.Digest != "": // with a tag: one that goes with the manifest
		kind = "digest"
	case q.Ref.Tag != "":
		kind = "tag"
	}
	req := map[string]any{
		"time": time.Now().UTC(), "action": q.Action, "repository": string(q.Repo), "reference": q.Ref.String(), "referenceType": kind,
		"tag": string(q.Ref.Tag), "digest": q.Ref.Digest.String(), "method": "", "userAgent": "",
	}
	client := map[string]any{"ip": "", "forwardedFor": []string{}}
	tls := map[string]any{"enabled": false, "version": ""}
	if r := q.Actor.Request; r != nil {
		req["method"], req["userAgent"] = r.Method, r.UserAgent
		client["ip"] = r.ClientIP
		if r.ForwardedFor != nil {
			client["forwardedFor"] = r.ForwardedFor
		}
		tls["enabled"], tls["version"] = r.TLS != "", r.TLS
	}
	groups := q.Groups
	if groups == nil {
		groups = []string{}
	}
	claims := make(map[string]any, len(q.Actor.Claims)+len(q.Actor.JSONClaims))
	for name, text := range q.Actor.Claims {
		claims[name] = text
	}
	for name, text := range q.Actor.JSONClaims {
		var v any
		if json.Unmarshal([]byte(text), &v) == nil { // what can't be read is not there
			claims[name] = v
		}
	}
	return map[string]any{
		"req": req, "client": client, "tls": tls, "claims": claims,
		"user": map[string]any{"username": q.Actor.ID, "groups": groups},
		"auth": map[string]any{"anonymous": q.Actor.Anonymous(), "admin": q.Admin},
	}
}
