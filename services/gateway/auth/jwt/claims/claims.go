// Package claims evaluates what the claims of a token mean here, by expressions of
// the Common Expression Language (https://cel.dev), as zot's claimMapping has them:
// over claims, and over vars, which are named expressions.
//
// Nothing of the program or the machine can be reached from one, and what it may
// cost is bounded, when it is compiled and when it is evaluated. An expression that
// has no value, because a claim is not there, refuses the token.
package claims

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/gateway/auth/jwt"
)

// Bounds of an expression. A unit of cost is about one simple operation.
const (
	maxExpression = 4096 // bytes
	maxNesting    = 32
	maxCost       = 50_000
	maxRules      = 100
	// maxGroups bounds how many groups a token may give.
	maxGroups = 1000
)

var groupsType = reflect.TypeFor[[]string]()

type rules struct {
	variables, validations []rule
	username, groups       cel.Program // nil: none
}

type rule struct {
	text    string // name of a variable, message of a validation
	program cel.Program
}

// Compile compiles the rules of an issuer. It is a [jwt.CompileRules].
func Compile(c config.ClaimRules) (jwt.Rules, error) {
	if len(c.Variables)+len(c.Validations) > maxRules {
		return nil, fmt.Errorf("there are more than %d variables and validations", maxRules)
	}
	fields := cel.MapType(cel.StringType, cel.DynType)
	env, err := cel.NewCustomEnv(cel.StdLib(), ext.Strings(), ext.Lists(),
		cel.ParserRecursionLimit(maxNesting), cel.ParserExpressionSizeLimit(maxExpression),
		cel.Variable("claims", fields), cel.Variable("vars", fields))
	if err != nil {
		return nil, err
	}
	var r rules
	compile := func(where, text string) cel.Program {
		if err != nil {
			return nil
		}
		var p cel.Program
		ast, issues := env.Compile(text)
		if err = issues.Err(); err == nil {
			p, err = env.Program(ast, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100))
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", where, err)
		}
		return p
	}
	for i, v := range c.Variables {
		if v.Name == "" {
			return nil, fmt.Errorf("variables[%d]: name: needed", i)
		}
		r.variables = append(r.variables, rule{v.Name, compile(fmt.Sprintf("variables[%d]", i), v.Expression)})
	}
	for i, v := range c.Validations {
		r.validations = append(r.validations, rule{v.Message, compile(fmt.Sprintf("validations[%d]", i), v.Expression)})
	}
	if c.Username != "" {
		r.username = compile("username", c.Username)
	}
	if c.Groups != "" {
		r.groups = compile("groups", c.Groups)
	}
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// Map implements [jwt.Rules].
func (r *rules) Map(claims map[string]any) (user string, groups []string, err error) {
	plain, err := plainNumbers(claims)
	if err != nil {
		return "", nil, err
	}
	vars := make(map[string]any)
	known := map[string]any{"claims": plain, "vars": vars}
	for _, v := range r.variables {
		value, err := eval(v.program, known)
		if err != nil {
			return "", nil, fmt.Errorf("the variable %s: %w", v.text, err)
		}
		vars[v.text] = value
	}
	for _, v := range r.validations {
		value, err := eval(v.program, known)
		if err != nil {
			return "", nil, fmt.Errorf("a validation: %w", err)
		}
		if value.Value() != true {
			return "", nil, fmt.Errorf("a validation does not hold: %s", v.text)
		}
	}
	if r.username != nil {
		value, err := eval(r.username, known)
		if err != nil {
			return "", nil, fmt.Errorf("username: %w", err)
		}
		var ok bool
		if user, ok = value.Value().(string); !ok || user == "" {
			return "", nil, errors.New("username: it is no text, or empty")
		}
	}
	if r.groups != nil {
		if groups, err = r.mapGroups(known); err != nil {
			return "", nil, fmt.Errorf("groups: %w", err)
		}
	}
	return user, groups, nil
}

func (r *rules) mapGroups(known map[string]any) ([]string, error) {
	value, err := eval(r.groups, known)
	if err != nil {
		return nil, err
	}
	native, err := value.ConvertToNative(groupsType)
	if err != nil {
		return nil, errors.New("it is not a list of texts")
	}
	groups, _ := native.([]string)
	if len(groups) > maxGroups {
		return nil, fmt.Errorf("there are more than %d", maxGroups)
	}
	return groups, nil
}

func eval(p cel.Program, known map[string]any) (ref.Val, error) {
	value, _, err := p.Eval(known)
	return value, err
}

// plainNumbers returns the claims with numbers as CEL knows them.
func plainNumbers(claims map[string]any) (map[string]any, error) {
	text, err := json.Marshal(claims)
	if err != nil {
		return nil, err
	}
	var plain map[string]any
	err = json.NewDecoder(bytes.NewReader(text)).Decode(&plain)
	return plain, err
}
