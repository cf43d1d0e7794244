/* Reference: validation losses that others published, to answer "is my loss right?". */
#ifndef GPT_REPORT_REFERENCE_H
#define GPT_REPORT_REFERENCE_H

#include "report/folder.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { REFERENCE_MAX_POINTS = 32, REFERENCE_MAX_SETTINGS = 12, VERDICT_BYTES = 1024 };

typedef struct {
    const char *key;
    double value;
} ReferenceSetting;

typedef struct {
    int64_t step; /* updates made */
    double val_loss;
} ReferencePoint;

typedef struct {
    const char *name, *source;
    const char *text;    /* what it was trained on */
    const char *dataset; /* a part of the name that a dataset of this text has */
    int64_t step_tokens; /* of one update */
    double tolerance;    /* relative: nearer is the same */
    int32_t n_points, n_settings;
    ReferencePoint point[REFERENCE_MAX_POINTS];
    /* The first N_SHAPE_SETTINGS make it the same model. */
    ReferenceSetting setting[REFERENCE_MAX_SETTINGS];
} Reference;

/* All of them, static. */
const Reference *reference_list(int32_t *n_references);

/* HellaSwag's acc_norm of a model that everybody has. */
typedef struct {
    const char *name, *source;
    double acc_norm;
} HellaswagReference;

HellaswagReference reference_hellaswag(void);

/* The one of the same model with steps as large (within a tenth); NULL: none, or the settings of
 * the run are not known. */
const Reference *reference_of(const Folder *folder);

/* *loss = of the reference at a step: of a point, or between two of which the later is not much
 * lower. False: the reference says nothing of this step. */
bool reference_at(const Reference *r, int64_t step, double *loss);

/* Sentences for people: the run's validation loss beside the reference's at the latest step that
 * both have, what to think of it, and which settings differ. */
typedef struct {
    char text[VERDICT_BYTES];
    bool is_compared, is_right;
} Verdict;

Verdict reference_verdict(const Folder *folder);

#ifdef __cplusplus
}
#endif
#endif
