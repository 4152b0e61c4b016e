"""The metrics written as plain loops over Python numbers, as their definitions read."""


def label_sets(predictions, targets, mask):
    images, labels = len(targets), len(targets[0])
    precision, recall, f1 = [], [], []
    all_correct = all_predicted = all_actual = 0
    for label in range(labels):
        rows = [i for i in range(images) if mask[i][label]]
        correct = sum(1 for i in rows if predictions[i][label] and targets[i][label])
        predicted = sum(1 for i in rows if predictions[i][label])
        actual = sum(1 for i in rows if targets[i][label])
        precision.append(correct / predicted if predicted else 0.0)
        recall.append(correct / actual if actual else 0.0)
        f1.append(2 * correct / (predicted + actual) if predicted + actual else 0.0)
        all_correct, all_predicted, all_actual = (
            all_correct + correct,
            all_predicted + predicted,
            all_actual + actual,
        )
    exact, seen = 0, 0
    for i in range(images):
        known = [label for label in range(labels) if mask[i][label]]
        seen += bool(known)
        exact += bool(known) and all(bool(predictions[i][j]) == bool(targets[i][j]) for j in known)
    pc_p, pc_r = sum(precision) / labels, sum(recall) / labels
    ov_p = all_correct / all_predicted if all_predicted else 0.0
    ov_r = all_correct / all_actual if all_actual else 0.0
    return {
        "pc_p": pc_p,
        "pc_r": pc_r,
        "ov_p": ov_p,
        "ov_r": ov_r,
        "f1": sum(f1) / labels,
        "exact_match": exact / seen if seen else 0.0,
        "cf1": 2 * pc_p * pc_r / (pc_p + pc_r) if pc_p + pc_r else 0.0,
        "of1": 2 * ov_p * ov_r / (ov_p + ov_r) if ov_p + ov_r else 0.0,
    }


def ranking(scores, targets, mask):
    loss, coverage, one_error, lrap = [], [], [], []
    for row, labels, known in zip(scores, targets, mask, strict=True):
        pairs = [(s, bool(y)) for s, y, k in zip(row, labels, known, strict=True) if k]
        if not pairs:
            continue
        positives, negatives = [s for s, y in pairs if y], [s for s, y in pairs if not y]
        wrong = sum(1 for u in positives for v in negatives if v >= u)
        loss.append(wrong / (len(positives) * len(negatives)) if positives and negatives else 0.0)
        coverage.append(max((sum(1 for s, _ in pairs if s >= u) for u in positives), default=0))
        top = max(s for s, _ in pairs)
        one_error.append(float(bool(positives) and top in negatives))
        precisions = [
            sum(1 for s in positives if s >= u) / sum(1 for s, _ in pairs if s >= u) for u in positives
        ]
        lrap.append(sum(precisions) / len(precisions) if positives and negatives else 1.0)
    average = []
    for label in range(len(targets[0])):
        pairs = [(scores[i][label], targets[i][label]) for i in range(len(targets)) if mask[i][label]]
        positives = sum(1 for _, y in pairs if y)
        if not positives:
            continue
        value, before = 0.0, 0
        for cutoff in sorted({s for s, _ in pairs}, reverse=True):
            above = [y for s, y in pairs if s >= cutoff]
            found = sum(1 for y in above if y)
            value += (found - before) / positives * found / len(above)
            before = found
        average.append(value)
    return {
        "map": sum(average) / len(average) if average else 0.0,
        "map_classes": len(average),
        "ranking_loss": sum(loss) / len(loss),
        "coverage": sum(coverage) / len(coverage),
        "one_error": sum(one_error) / len(one_error),
        "lrap": sum(lrap) / len(lrap),
    }
