package deploy_test
import _ "github.com/prometheus/prometheus/promql/parser"
import _ "go.opentelemetry.io/proto/otlp/collector/trace/v1"
