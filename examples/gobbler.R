#!/usr/bin/env Rscript
# A complete client of gobblerd in R; needs no package. Copy it, change it, call it:
#
#   Rscript gobbler.R request ACTION [FILE]                   ask for an action; its JSON document is read
#                                                             from FILE or standard input
#   Rscript gobbler.R upload DIRECTORY PROJECT ASSET VERSION  make a new version of a directory
#
# or, from R: source("gobbler.R"); gobbler_upload("results", "project", "asset", "1")
#
# GOBBLER_STAGING  the staging directory that gobblerd watches (required)
# GOBBLER_TIMEOUT  seconds to wait for the answer (default 600)
#
# Prints the response. Exit code: 0 done, 1 refused, 2 wrong usage, 3 no staging directory,
# 4 not answered in time (the request stays, and is answered when the daemon gets to it).

# Stop with an exit code for scripts; in a session it is an ordinary error.
gobbler_fail <- function(code, ...) {
  stop(structure(class = c("gobbler_error", "error", "condition"),
                 list(message = paste0(...), call = NULL, code = code)))
}

gobbler_staging <- function() {
  staging <- sub("(.)/+$", "\\1", Sys.getenv("GOBBLER_STAGING"))
  if (staging == "") gobbler_fail(3, "set GOBBLER_STAGING to the staging directory that gobblerd watches")
  if (!dir.exists(file.path(staging, "responses")))
    gobbler_fail(3, staging, " is not the staging directory of a gobblerd")
  staging
}

# Text as a JSON string.
gobbler_quote <- function(text) paste0('"', gsub('(["\\\\])', "\\\\\\1", enc2utf8(text)), '"')

# Drop a JSON document (one string), wait for the response and return it, as one string.
gobbler_request <- function(action, document, keep = function() NULL) {
  staging <- gobbler_staging()
  umask <- Sys.umask("022")                  # the daemon must be able to read what we write
  on.exit(Sys.umask(umask))
  temporary <- tempfile("new-", tmpdir = staging)
  name <- paste0("request-", action, sub(".*/new-", "-", temporary), "-", Sys.info()[["nodename"]])
  request <- file.path(staging, name)
  on.exit(unlink(c(temporary, request), expand = FALSE), add = TRUE)   # also after Ctrl-C: not begun, never executed
  written <- tryCatch({
    writeBin(charToRaw(document), temporary)
    file.rename(temporary, request)
  }, error = function(...) FALSE, warning = function(...) FALSE)
  if (!written) gobbler_fail(3, "cannot write into ", staging)

  answer <- file.path(staging, "responses", name)
  deadline <- Sys.time() + as.numeric(Sys.getenv("GOBBLER_TIMEOUT", "600"))
  pause <- 0.02
  while (!file.exists(answer)) {
    if (Sys.time() >= deadline) {
      on.exit(Sys.umask(umask))              # whoever answers later will need the request
      keep()
      gobbler_fail(4, "no answer to ", name, " yet: is gobblerd running and watching ", staging,
                   "?\nIt will be in ", answer)
    }
    Sys.sleep(pause)
    pause <- min(pause * 1.5, 2)
    try(suppressWarnings(close(file(dirname(answer), "r"))), silent = TRUE)  # opening makes NFS look again
  }
  rawToChar(readBin(answer, "raw", file.size(answer)))
}

# Tell whether a response says that it was done (quotes inside of strings are escaped).
gobbler_succeeded <- function(response) grepl('^\\{\\s*"status":\\s*"SUCCESS"', response)

# Copy a directory: symbolic links and empty directories stay what they are.
gobbler_copy <- function(from, to) {
  for (name in list.files(from, all.files = TRUE, no.. = TRUE)) {
    source <- file.path(from, name)
    target <- file.path(to, name)
    link <- Sys.readlink(source)
    done <- if (nzchar(link)) file.symlink(link, target)
            else if (!dir.exists(source)) suppressWarnings(file.copy(source, target, copy.mode = FALSE))
            else dir.create(target) && gobbler_copy(source, target)
    if (!done) gobbler_fail(2, "cannot copy ", source)
  }
  TRUE
}

# Make a new version of a directory; returns the response.
gobbler_upload <- function(directory, project, asset, version) {
  if (!dir.exists(directory)) gobbler_fail(2, directory, " is not a directory")
  staging <- gobbler_staging()
  umask <- Sys.umask("022")
  copied <- tempfile("upload-", tmpdir = staging)
  on.exit({ Sys.umask(umask); if (!is.null(copied)) unlink(copied, recursive = TRUE, expand = FALSE) })
  if (!dir.create(copied, showWarnings = FALSE)) gobbler_fail(3, "cannot write into ", staging)
  gobbler_copy(directory, copied)
  fields <- c(source = basename(copied), project = project, asset = asset, version = version)
  document <- paste0("{", paste0(gobbler_quote(names(fields)), ":", gobbler_quote(fields), collapse = ","), "}")
  gobbler_request("upload", document, keep = function() copied <<- NULL)
}

gobbler_main <- function(arguments) {
  verb <- paste(arguments[1], length(arguments))
  if (verb == "upload 5") return(do.call(gobbler_upload, as.list(arguments[-1])))
  if (!verb %in% c("request 2", "request 3")) {
    gobbler_fail(2, "usage: gobbler.R request ACTION [FILE] | gobbler.R upload DIRECTORY PROJECT ASSET VERSION")
  }
  if (verb == "request 3" && file.access(arguments[3], 4) != 0) gobbler_fail(2, "cannot read ", arguments[3])
  input <- file(if (verb == "request 3") arguments[3] else "stdin")
  on.exit(close(input))
  gobbler_request(arguments[2], paste(readLines(input, warn = FALSE), collapse = "\n"))
}

if (sys.nframe() == 0L) {                    # called as a script, not sourced
  code <- tryCatch({
    response <- gobbler_main(commandArgs(trailingOnly = TRUE))
    cat(response, "\n", sep = "")
    if (gobbler_succeeded(response)) 0 else 1
  }, gobbler_error = function(error) {
    message("gobbler.R: ", conditionMessage(error))
    error$code
  }, interrupt = function(...) 130)
  quit(status = code)
}
