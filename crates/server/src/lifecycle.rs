//! Reloading and stopping: `/-/reload` and `/-/quit`, as Prometheus has them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use tokio::task::JoinError;

use crate::app::App;

/// Said when nobody has switched it on.
const DISABLED: &str = "Lifecycle API is not enabled.";

/// Reads the configuration anew and logs how that went.
pub fn reload(app: &App) -> Result<(), String> {
    let alerts = crate::alertmanager_api::reload_now(&app.alertmanager);
    let reloaded = app.config.reload(app.now_ms());
    let reloaded = reloaded.map_err(|error| error.to_string()).and_then(|()| {
        // The rules that were in force stay when a file of the new ones is wrong.
        let loaded = app.load_rules();
        if loaded.is_err() {
            app.config.mark_failed();
        }
        loaded
    });
    let reloaded = reloaded.and(alerts);
    match &reloaded {
        Ok(()) => {
            app.notifications.clear(RELOAD_FAILED);
            tracing::info!("the configuration was reloaded");
        }
        Err(error) => {
            app.notifications.raise(RELOAD_FAILED, app.now_ms());
            tracing::error!(%error, "the configuration was not reloaded, the one before stays");
        }
    }
    reloaded
}

const RELOAD_FAILED: &str = "Configuration reload has failed.";

/// `/-/reload`
pub async fn post_reload(State(app): State<App>) -> Response {
    if !app.options.is_lifecycle_enabled {
        return (StatusCode::FORBIDDEN, DISABLED).into_response();
    }
    reloaded(tokio::task::spawn_blocking(move || reload(&app)).await)
}

/// The answer to who asked for a reload.
pub(crate) fn reloaded(reloaded: Result<Result<(), String>, JoinError>) -> Response {
    match reloaded {
        Ok(Ok(())) => StatusCode::OK.into_response(),
        Ok(Err(error)) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed to reload config: {error}\n"),
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// `/-/quit`
pub async fn post_quit(State(app): State<App>) -> Response {
    if !app.options.is_lifecycle_enabled {
        return (StatusCode::FORBIDDEN, DISABLED).into_response();
    }
    app.quit.notify_one();
    (StatusCode::OK, "Requesting termination... Goodbye!").into_response()
}
