# ClassReflect Whisper: the front door. `make` shows the verbs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3.11
FILE ?= samples/lesson.flac
SCHOOL ?= 1
TEACHER ?= 1
JOB ?= last
MODEL ?=
ENGINE ?=
LANGUAGE ?=
LIMIT ?= 20
MINUTES ?= 15
HOURS ?= 1
JSON ?=
FOLLOW ?=
DRY_RUN ?=
SEED ?= 1
SCHOOLS ?=
LESSONS ?=
DAYS ?=
HOLIDAYS ?=
TRACE ?=
TARGET ?=
MAXIMUM ?=
EXACT ?=
PART ?=
AUDIO ?=
ENGINES ?=
ONLY ?=
REPEATS ?=
QUICK ?=
LONG ?=
RESUME ?=
BUDGET ?=
RECORD ?=
YES ?=
LOSE_QUEUE ?=
FORCE ?=
HOSTS ?=
VERSION ?=
ONLY ?=

VENV := .venv/bin
OPS := $(VENV)/python -m ops
LOCAL := $(VENV)/python -m local
SCENARIO := $(VENV)/python -m pytest -sq
# More than two cores have work for: many tests wait for a worker, a boot or the next tick.
TEST_PROCESSES ?= 4
SPACE := $(subst x,,x x)
SHELL_SCRIPTS := .ci/run packer/wait-until-settled.sh packer/assert-clean.sh
IMAGE_VENV := .local/image-venv/bin

.PHONY: help setup setup-tests setup-planner demo test chaos bench check check-lint check-types check-tests lint format lock up down clean deploy deploy-infra deploy-lambda \
        rollback-lambda deploy-config deploy-processor rollback versions rehearse-deploy \
        launch replace roll migrate models publish-model setup-image validate-image ami images prune-images image test-image test-ami rehearse \
        submit watch jobs transcript status start stop hold resume release queue dlq redrive logs \
        session run-processor alarms dashboard doctor destroy plan plan-check

##@ First
help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## The whole pipeline on this machine; FILE=lesson.mp3 for a recording of yours
	@CLOUD=local $(LOCAL) demo "$(FILE)"

test: setup-tests lint ## Lint, unit tests, integration tests, and where it can be: bake and test the image
	@CLOUD=local $(VENV)/python -m pytest --appliance --numprocesses=$(TEST_PROCESSES) --dist=loadfile --no-loadscope-reorder

chaos: setup-tests ## Prove that nothing is lost or doubled: SEED=… [PART=storm|hostile|audio], six minutes
	@$(SCENARIO) tests/scenarios/chaos -m full --seed $(SEED) $(if $(PART),-k $(PART))

bench: setup-tests ## Engines side by side: [AUDIO=… ENGINES=… ONLY=… REPEATS=… PART=… QUICK=1 LONG=1 RESUME=1 BUDGET=minutes]
	@$(VENV)/python -m bench $(if $(AUDIO),--audio "$(AUDIO)") $(if $(ENGINES),--engines "$(ENGINES)") \
	  $(if $(ONLY),--only "$(ONLY)") $(if $(REPEATS),--repeats $(REPEATS)) $(if $(PART),--part $(PART)) \
	  $(if $(QUICK),--quick) $(if $(LONG),--four-hours) $(if $(RESUME),--resume) \
	  $(if $(BUDGET),--budget $(BUDGET)) $(if $(RECORD),--record)

##@ The local cloud
up: setup ## Start emulator, database and supervisor
	@$(LOCAL) up

down: setup ## Stop them; data stays
	@$(LOCAL) down

clean: setup ## Stop them and delete their data; models and venvs stay
	@$(LOCAL) clean

##@ Deploy (AWS with CLOUD=aws in .env, else the local cloud)
deploy: deploy-infra migrate deploy-lambda deploy-config launch ## All of the following, in order; safe to repeat

deploy-infra: setup ## Bucket, queues, roles, launch template
	@$(OPS) deploy-infra

deploy-lambda: setup ## The autoscaler: a new version is live once a dry run of it has succeeded
	@$(OPS) deploy-lambda

rollback-lambda: setup ## The autoscaler's previous version, or VERSION=…, is live again
	@$(OPS) rollback-lambda $(if $(VERSION),--version "$(VERSION)")

deploy-config: setup ## The appliance's settings of .env, to running appliances at once
	@$(OPS) deploy-config

deploy-processor: setup ## This checkout's worker to every appliance: running ones now, stopped ones at their next boot
	@$(OPS) deploy-processor

rollback: setup ## Back to the previous release, or VERSION=…, in the same two ways
	@$(OPS) rollback $(if $(VERSION),"$(VERSION)")

versions: setup ## Releases in the bucket, which is wanted, what runs where; JSON=1 for scripts
	@$(OPS) versions $(if $(JSON),--json)

launch: setup ## The appliance, unless there is one
	@$(OPS) launch

replace: deploy-infra ## Replace the appliance by one of the newest image, once that one works
	@$(OPS) replace

roll: deploy-infra ## The old name of `replace`, for one more version
	@$(OPS) roll

migrate: setup ## Bring the database's tables up to date
	@$(OPS) migrate

models: setup ## Fetch and verify a model: MODEL=base ENGINE=faster-whisper
	@$(OPS) models $(or $(MODEL),base) $(if $(ENGINE),--engine $(ENGINE))

publish-model: setup ## Put a model into the bucket for appliances that lack it: MODEL=… ENGINE=…
	@$(OPS) publish-model $(or $(MODEL),base) $(if $(ENGINE),--engine $(ENGINE))

##@ The appliance's image
validate-image: setup-image ## Format and validity of Packer's templates, with whichever Packer is here
	@$(OPS) validate-image

ami: setup-image ## Bake the AMI on AWS, test it inside the bake, record it for `launch`
	@CLOUD=aws $(OPS) ami

images: setup ## The AMIs, and what refers to each
	@$(OPS) images

prune-images: setup ## AMIs that nothing refers to, except the newest two: lists them, YES=1 deletes them
	@$(OPS) prune-images $(if $(YES),--yes)

test-ami: setup-image ## Test running appliances: HOSTS=i-…[,i-…] over SSM, or ssh://user@address
	@$(OPS) test-ami "$(HOSTS)"

image: setup-image ## The same bake on this machine (root, Linux): FORCE=1 even if nothing has changed
	@CLOUD=local $(LOCAL) image $(if $(FORCE),--force)

test-image: setup-image ## Boot a fresh copy of it and test it over SSH; run the roles again
	@CLOUD=local $(LOCAL) test-image

rehearse: setup-image ## The demo with the real appliance behind the instance; FILE=lesson.mp3
	@CLOUD=local LOCAL_MACHINE=nspawn $(LOCAL) rehearse "$(FILE)"

rehearse-deploy: setup-image ## Deploy releases to a real appliance, with all that can go wrong: ONLY="power cut"
	@CLOUD=local $(LOCAL) image
	@CLOUD=local $(SCENARIO) tests/scenarios/deploys -m "appliance or full" $(if $(ONLY),-k "$(subst $(SPACE),_,$(ONLY))")

##@ Lessons
submit: setup ## Do what the backend does: FILE=… SCHOOL=… TEACHER=… [MODEL=… ENGINE=… LANGUAGE=…]
	@$(OPS) submit "$(FILE)" --school $(SCHOOL) --teacher $(TEACHER) \
	  $(if $(MODEL),--model $(MODEL)) $(if $(ENGINE),--engine $(ENGINE)) $(if $(LANGUAGE),--language $(LANGUAGE))

watch: setup ## Progress of a lesson until it ends: JOB=…
	@$(OPS) watch $(JOB)

jobs: setup ## The latest lessons: LIMIT=…
	@$(OPS) jobs --limit $(LIMIT)

transcript: setup ## A lesson's text: JOB=…
	@$(OPS) transcript $(JOB)

##@ Operate
status: setup ## One screen; JSON=1 for scripts; exit code tells healthy from not
	@$(OPS) status $(if $(JSON),--json)

start: setup ## Start the appliance and keep it up: HOURS=…
	@$(OPS) start --hours $(HOURS)

stop: setup ## Stop the appliance and keep it down: HOURS=…
	@$(OPS) stop --hours $(HOURS)

hold: setup ## Keep the autoscaler from acting: HOURS=…
	@$(OPS) hold --hours $(HOURS)

resume: setup ## End a hold
	@$(OPS) resume

release: setup ## The old name of `resume`, for one more version
	@$(OPS) release

queue: setup ## How many lessons wait
	@$(OPS) queue

dlq: setup ## What is in the dead-letter queue, and why
	@$(OPS) dlq --limit $(LIMIT)

redrive: setup ## Send them to the lesson queue again: LIMIT=… DRY_RUN=1
	@$(OPS) redrive --limit $(LIMIT) $(if $(DRY_RUN),--dry-run)

logs: setup ## Autoscaler and processor in order of time: MINUTES=… FOLLOW=1
	@$(OPS) logs --minutes $(MINUTES) $(if $(FOLLOW),--follow)

alarms: setup ## Each alarm's state and what to do; exit code 1 when one fires
	@$(OPS) alarms

dashboard: setup ## The dashboard's numbers; on AWS its address too
	@$(OPS) dashboard

##@ Plan (docs/planner.md)
plan: setup-planner ## What it will cost, and how long lessons wait: SCHOOLS=50 [LESSONS=… DAYS=7 TARGET=15 | TRACE=file.csv]
	@PYTHONPATH=lambda $(VENV)/python -m planner --seed $(SEED) \
	  $(if $(SCHOOLS),--schools $(SCHOOLS)) $(if $(LESSONS),--lessons $(LESSONS)) $(if $(DAYS),--days $(DAYS)) \
	  $(if $(HOLIDAYS),--holidays $(HOLIDAYS)) $(if $(TRACE),--trace "$(TRACE)") $(if $(TARGET),--target $(TARGET)) \
	  $(if $(MAXIMUM),--maximum $(MAXIMUM)) $(if $(EXACT),--exact)

plan-check: setup-tests ## Hold the planner's simulation against a real run on this machine, five minutes
	@$(SCENARIO) tests/scenarios/reality -m full

##@ Trouble (docs/operations.md)
doctor: setup ## What is wrong, and the command that fixes it
	@$(OPS) doctor

session: setup ## A shell on the appliance, through SSM
	@$(OPS) session

run-processor: setup ## Run the processor by hand in the service's place, and show what it says: MINUTES=…
	@$(OPS) run-processor --minutes $(MINUTES)

destroy: setup ## Take all down but lessons and database; asks, unless YES=1
	@$(OPS) destroy $(if $(YES),--yes) $(if $(LOSE_QUEUE),--lose-queue)

##@ Work on it
setup: ## Install what this machine lacks (the verbs do it by themselves)
	@$(PYTHON) tools/bootstrap.py

setup-tests:
	@$(PYTHON) tools/bootstrap.py --tests --image

setup-image:
	@$(PYTHON) tools/bootstrap.py --image

setup-planner:
	@$(PYTHON) tools/bootstrap.py --planner

check: setup-tests ## Lint, types and unit tests in a minute, for the loop of every day
	@$(MAKE) --jobs=2 --output-sync=target check-tests check-types check-lint

check-lint:
	@$(VENV)/ruff check --quiet .
	@$(VENV)/ruff format --check --quiet .
	@PYTHONPATH=.:processor/src:lambda $(VENV)/lint-imports --no-cache --no-logo
	@$(VENV)/yamllint --strict .
	@shellcheck $(SHELL_SCRIPTS)
	@$(VENV)/cfn-lint infra/*.yaml

check-types:
	@$(VENV)/mypy

check-tests:
	@$(VENV)/python -m pytest -q --numprocesses=2 --dist=worksteal tests/unit $(wildcard tests/scenarios/*/test_plans.py)

lint: setup-tests check-lint check-types ## ruff, import-linter, yamllint, shellcheck, cfn-lint, mypy, ansible-lint, packer
	@cd ansible && PATH="$(CURDIR)/$(IMAGE_VENV):$$PATH" ansible-lint --offline -q
	@cd ansible && $(CURDIR)/$(IMAGE_VENV)/ansible-playbook --syntax-check -i localhost, *.yml >/dev/null
	@$(OPS) validate-image

format: setup-tests ## Let ruff fix and format, and write .env.example from the settings
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .
	@$(VENV)/python -m ops.env_example

lock: ## Compile requirements/*.in to the locks
	@$(PYTHON) -m tools.lock
