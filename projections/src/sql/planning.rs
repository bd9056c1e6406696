//! Ends a planning that takes too long: the steps of the planner ask whether the query is still wanted.
//!
//! Planning never waits for anything, so nothing outside can stop it. What a statement makes of a plan is bounded by
//! [`super::guard`]; should one still keep the planner busy, its place and its thread are freed at the deadline.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::exec_err;
use datafusion::common::tree_node::Transformed;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::{RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::optimizer::{Analyzer, AnalyzerRule, ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::{PhysicalOptimizer, PhysicalOptimizerContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::TableFactor;

use super::deadline::Deadline;

/// Puts a check before every step of a session's planner: each table named, and each rule at each node.
pub(super) fn watched(builder: SessionStateBuilder) -> SessionStateBuilder {
    let analyzers = Analyzer::new().rules.into_iter().map(|rule| Arc::new(Watched(rule)) as _).collect();
    let optimizers = Optimizer::new().rules.into_iter().map(|rule| Arc::new(Watched(rule)) as _).collect();
    let physical = PhysicalOptimizer::new().rules.into_iter().map(|rule| Arc::new(Watched(rule)) as _).collect();
    builder
        .with_analyzer_rules(analyzers)
        .with_optimizer_rules(optimizers)
        .with_physical_optimizer_rules(physical)
        .with_relation_planners(vec![Arc::new(WatchedTables)])
}

/// The deadline of a session's query. Handed to the steps of the planner through the options of the session.
#[derive(Debug, Clone)]
pub(super) struct Wanted(pub(super) Arc<Deadline>);

impl Wanted {
    fn check(options: &ConfigOptions) -> Result<()> {
        match options.extensions.get::<Self>() {
            Some(wanted) => Ok(wanted.0.check()?),
            None => Ok(()),
        }
    }
}

impl ConfigExtension for Wanted {
    const PREFIX: &'static str = "wanted";
}

impl ExtensionOptions for Wanted {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, _: &str, _: &str) -> Result<()> {
        exec_err!("no such option")
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}

/// Asks before each table that a statement names is planned.
#[derive(Debug)]
struct WatchedTables;

impl RelationPlanner for WatchedTables {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        Wanted::check(context.context_provider().options())?;
        Ok(RelationPlanning::Original(Box::new(relation)))
    }
}

/// A rule of the engine that asks before it does anything.
struct Watched<R: ?Sized>(Arc<R>);

impl<R: ?Sized + fmt::Debug> fmt::Debug for Watched<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AnalyzerRule for Watched<dyn AnalyzerRule + Send + Sync> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        Wanted::check(config)?;
        self.0.analyze(plan, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

impl OptimizerRule for Watched<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        Wanted::check(&config.options())?;
        self.0.rewrite(plan, config)
    }
}

impl PhysicalOptimizerRule for Watched<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Wanted::check(config)?;
        self.0.optimize(plan, config)
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Wanted::check(context.config_options())?;
        self.0.optimize_with_context(plan, context)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::super::QueryError;
    use super::*;

    fn context(deadline: Arc<Deadline>) -> SessionContext {
        let mut config = SessionConfig::new();
        config.options_mut().extensions.insert(Wanted(deadline));
        let builder = SessionStateBuilder::new().with_default_features().with_config(config);
        SessionContext::new_with_state(watched(builder).build())
    }

    fn timeout(error: datafusion::error::DataFusionError) -> bool {
        matches!(QueryError::planning(error), QueryError::Timeout(_))
    }

    #[tokio::test]
    async fn every_stage_of_planning_ends_once_the_query_is_not_wanted() {
        let deadline = Arc::new(Deadline::after(Duration::from_secs(600)));
        let context = context(Arc::clone(&deadline));
        let sql = "SELECT a FROM (SELECT 1 AS a) AS t WHERE a > 0";
        let state = context.state();
        let logical = state.create_logical_plan(sql).await.unwrap();
        let optimized = state.optimize(&logical).unwrap();
        state.query_planner().create_physical_plan(&optimized, &state).await.unwrap();
        deadline.cancel();
        assert!(timeout(state.create_logical_plan(sql).await.unwrap_err()));
        assert!(timeout(state.optimize(&logical).unwrap_err()));
        assert!(timeout(state.query_planner().create_physical_plan(&optimized, &state).await.unwrap_err()));
    }

    #[test]
    fn no_rule_of_the_engine_is_left_out() {
        let context = context(Arc::new(Deadline::after(Duration::from_secs(600))));
        let own = SessionContext::new().state();
        let state = context.state();
        let names = |rules: &[Arc<dyn OptimizerRule + Send + Sync>]| -> Vec<_> {
            rules.iter().map(|rule| rule.name().to_owned()).collect()
        };
        assert_eq!(names(state.optimizers()), names(own.optimizers()));
        assert_eq!(state.analyzer().rules.len(), own.analyzer().rules.len());
        assert_eq!(state.physical_optimizers().len(), own.physical_optimizers().len());
    }
}
