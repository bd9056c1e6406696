//! What only a server of S3 can do to views.

use projections::view::{Access, Budget, PlaceError, ViewError};

use crate::projector::{Running, events, store};
use crate::s3proxy::S3Proxy;
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_missing_and_a_login_that_is_wrong_are_told() {
    let Some(proxy) = S3Proxy::shared() else { return };
    let place = proxy.open(&proxy.settings("s3://no-such-bucket/views")).unwrap();
    for access in [Access::Read, Access::Write] {
        assert!(matches!(place.check(access).await, Err(PlaceError::NoBucket(_))));
    }
    assert!(matches!(try_open(&place).await.err(), Some(ViewError::NoBucket { .. })));
    let mut settings = proxy.settings("s3://views-test/refused");
    settings.secret_key = Some("wrong".to_owned().into());
    let place = proxy.open(&settings).unwrap();
    let refused = place.check(Access::Read).await.unwrap_err();
    assert!(matches!(refused, PlaceError::Denied { .. }) && !refused.is_retryable(), "{refused}");
    assert!(!refused.to_string().contains("wrong"));
    assert!(matches!(try_open(&place).await.err(), Some(ViewError::Denied { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_costs_time_alone() {
    let Some(mut proxy) = S3Proxy::start() else { return };
    let (place, log, store) = (proxy.place(), log(1), store());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 500)).await;
    let running = Running::start_at(&log, &store, place.clone(), Budget::default());
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    append(&log, TENANT, &events(500, 900)).await;
    running.caught_up(&log).await;
    proxy.kill();
    assert!(matches!(place.check(Access::Read).await, Err(PlaceError::Away { .. })));
    assert!(matches!(running.handle.flush_all().await, Err(ViewError::Away { .. })));
    proxy.restart();
    running.handle.flush_all().await.unwrap();
    let before = running.rows(TENANT).await;
    running.stop().await;
    let running = Running::start_at(&log, &store, place, Budget::default());
    assert_eq!(running.rows(TENANT).await, before, "straight from the tables");
    running.stop().await;
}
